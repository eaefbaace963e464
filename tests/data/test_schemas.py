"""A stream's schema over time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import GOOD, ORDER, SPECS, apply_all, event

from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.quarantine import entries
from headrace.data.schemas import SchemaChanged, applied_schema, apply_schemas
from headrace.data.status import stream_status
from headrace.data.types import Check, Field, From, Pattern, Range, StreamSpec
from headrace.kernel.specs import Specs


def _changed(*added: Field, without: str = "", **fields: Field) -> StreamSpec:
    kept = tuple(fields.get(f.name, f) for f in ORDER.fields if f.name != without)
    return replace(ORDER, fields=kept + added)


def test_fields_that_may_be_null_or_have_a_default_are_added_to_stored_events(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    apply_schemas(ctx)
    append_raw(ctx, "order", GOOD)
    apply_all(ctx)
    spec = _changed(
        Field("note", "str", True),
        Field("channel", "str", default="web"),
        amount=Field("amount", "float", rules=(Range(min=-5),)),
    )
    ctx = make_context(Specs([spec]))
    apply_schemas(ctx)
    assert applied_schema(ctx, "order")[0] == 2
    append_raw(
        ctx, "order", [GOOD[0], event("n1", note="x", channel="app"), event("n2"), event("n3")[:-1] + b',"channel":null}']
    )
    apply_all(ctx, spec=spec)
    found = history(ctx, "order").select("id", "note", "channel")
    old = [(f"g{n}", None, "web") for n in range(6)]
    assert found.rows() == [*old, ("n1", "x", "app"), ("n2", None, "web")]
    assert [(e.id, e.field, e.reason) for e in entries(ctx, "order")] == [("n3", "channel", "is null")]
    assert stream_status(ctx)[0].redelivered == 1, "an event from before is the same event"
    assert log_history(ctx, "order")["channel"].to_list()[-2:] == ["app", "web"]
    apply_schemas(ctx)
    assert applied_schema(ctx, "order")[0] == 2


@pytest.mark.parametrize(
    ("spec", "field", "was", "is_"),
    [
        (_changed(amount=Field("amount", "int")), "amount", "float", "int"),
        (_changed(color=Field("color", "str")), "color", "str | None", "str"),
        (_changed(without="color"), "color", "str | None", None),
        (_changed(Field("note", "str")), "note", None, "str"),
        (_changed(amount=Field("amount", "float", default=1.0)), "amount", "float", "float = 1.0"),
        (replace(ORDER, key="id"), "key=", "customer", "id"),
    ],
)
def test_what_stored_events_do_not_allow_is_refused_with_the_difference(
    make_context: MakeContext, spec: StreamSpec, field: str, was: str | None, is_: str | None
) -> None:
    apply_schemas(make_context(SPECS))
    ctx = make_context(Specs([spec]))
    with pytest.raises(SchemaChanged, match=f"order.{field}: was {(was or 'not there').replace('|', '.')}, is") as raised:
        apply_schemas(ctx)
    assert raised.value.body()["error"]["changes"] == [{"stream": "order", "field": field, "was": was, "is": is_}]
    assert applied_schema(ctx, "order")[0] == 1


def test_a_field_may_become_null(make_context: MakeContext) -> None:
    apply_schemas(make_context(SPECS))
    ctx = make_context(Specs([_changed(amount=Field("amount", "float", True))]))
    apply_schemas(ctx)
    assert applied_schema(ctx, "order")[0] == 2


def test_a_member_that_became_a_field_reads_the_same_from_lake_log_and_both(make_context: MakeContext) -> None:
    """By a name and by a path, with values of the type and of others, before and after it was declared."""
    before = [
        event("typed", channel="app", meta={"weight": "2.5", "left": 1}),
        event("other", channel=7, meta={"weight": [1]}, note="kept"),
        event("without"),
        event("huge")[:-1] + b',"channel":1e400,"meta":{"weight":"9"}}',
        event("strict", channel="too long for the later pattern", meta={"weight": "-1"}),
    ]
    ctx = make_context(SPECS)
    append_raw(ctx, "order", before[:3])
    apply_all(ctx)
    append_raw(ctx, "order", before[3:])
    StreamApplier(ctx, ORDER, []).step()
    spec = _changed(
        Field("channel", "str", default="web", rules=(Pattern(".{1,9}"),)),
        Field("weight", "float", True, rules=(Range(min=0),), read=From("meta.weight", text=True)),
        amount=Field("amount", "float", rules=(Range(min=2.5, max=2.5),)),
    )
    ctx = make_context(Specs([spec]))
    apply_schemas(ctx)
    append_raw(ctx, "order", [event("new", channel="shop", meta={"weight": "4"}), event("bad", meta={"weight": [1]})])
    found = [
        ("typed", "app", 2.5), ("other", "web", None), ("without", "web", None), ("huge", "web", 9.0),
        ("strict", "too long for the later pattern", -1.0), ("new", "shop", 4.0),
    ]  # fmt: skip
    assert history(ctx, "order").select("id", "channel", "weight").rows() == found[:-1], "three are in the lake"
    apply_all(ctx, spec=spec)
    assert history(ctx, "order").select("id", "channel", "weight").rows() == found
    assert_frame_equal(log_history(ctx, "order"), history(ctx, "order"))
    assert history(ctx, "order")["_extra"].to_list()[:3] == [
        '{"meta":{"weight":"2.5","left":1}}', '{"meta":{"weight":[1]},"note":"kept"}', None
    ]  # fmt: skip
    assert [entry.id for entry in entries(ctx, "order")] == ["bad"]


def test_a_stricter_contract_takes_nothing_away_that_was_accepted(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", GOOD)
    apply_all(ctx)
    strict = _changed(amount=Field("amount", "float", rules=(Range(min=1),)))
    ctx = make_context(Specs([replace(strict, expect=(Check("never", lambda amount: amount < 0),))]))
    append_raw(ctx, "order", [event("new")])
    apply_all(ctx, spec=ctx.specs.all(StreamSpec)[0])
    assert log_history(ctx, "order")["id"].to_list() == [f"g{n}" for n in range(6)]
    assert_frame_equal(log_history(ctx, "order"), history(ctx, "order"))
