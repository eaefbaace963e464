"""A stream's schema over time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import MakeContext
from shop_world import GOOD, ORDER, SPECS, apply_all, event

from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.data.quarantine import entries
from headrace.data.schemas import SchemaChanged, applied_schema, apply_schemas
from headrace.data.status import stream_status
from headrace.data.types import Field, Range, StreamSpec
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
