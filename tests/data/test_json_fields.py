"""JSON as it is in the world: the fields are found in it, what cannot be read is refused, and nothing is thrown away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import MakeContext
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import ORDER, SPECS, apply_all, event

from headrace.data.appending import append_raw
from headrace.data.contract import contract_of
from headrace.data.history import history, log_history
from headrace.data.ingest import ingest
from headrace.data.quarantine import entries
from headrace.data.types import Field, From, StreamSpec, Violation
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time

NOW = parse_time("2026-01-31T12:00:00Z")
MICROS = 1_769_767_200_123_456


def _stream(*fields: Field, explode: str | None = None) -> StreamSpec:
    common = (Field("id", "str"), Field("at", "datetime", read=From("meta.time", epoch="s")), Field("customer", "int"))
    return replace(ORDER, fields=(*common, *fields), explode=explode)


def _read(field: Field, document: dict[str, Any]) -> Any:
    """What the field is in the document, by both decoders."""
    contract = contract_of(_stream(field))
    raw = json.dumps({"id": "a", "customer": 1, "meta": {"time": MICROS // 1_000_000}} | document).encode()
    one = contract.decode(raw, NOW)
    frame, refused = contract.decode_batch([raw], NOW)
    if isinstance(one, Violation):
        assert refused == [(0, one)]
        assert one.field == field.name
        return one.reason
    assert frame[field.name].to_physical().to_list() == [one[field.name]]
    return one[field.name]


NUMBER = "expected a number"


@pytest.mark.parametrize(
    ("field", "document", "value"),
    [
        (Field("v", "float", read=From("order.total")), {"order": {"total": 2.5}}, 2.5),
        (Field("v", "float", read=From("order.total")), {"order": {"total": "2.5"}}, NUMBER),
        (Field("v", "float", read=From("order.total")), {"order": 3}, "is missing"),
        (Field("v", "float", True, read=From("order.total")), {"order": {"total": None}}, None),
        (Field("v", "float", read=From("order.total")), {"v": 1.5}, 1.5),
        (Field("v", "float", read=From("order.total")), {"v": 1.5, "order": {"total": 2}}, 2.0),
        (Field("v", "str", read=From("lines[1].sku")), {"lines": [{"sku": "a"}, {"sku": "b"}]}, "b"),
        (Field("v", "str", read=From("lines[2].sku")), {"lines": [{"sku": "a"}]}, "is missing"),
        (Field("v", "str", read=From(("order.id", "line"))), {"order": {"id": 7}, "line": "x"}, "7-x"),
        (Field("v", "str", read=From(("order.id", "line"))), {"order": {"id": 7}}, "is missing"),
        (Field("v", "datetime", read=From(epoch="s")), {"v": 1.5}, 1_500_000),
        (Field("v", "datetime", read=From(epoch="s")), {"v": MICROS / 1e6}, MICROS),
        (Field("v", "datetime", read=From(epoch="us")), {"v": MICROS}, MICROS),
        (Field("v", "datetime", read=From(epoch="ms")), {"v": 1500}, 1_500_000),
        (Field("v", "datetime", read=From(epoch="s")), {"v": "2026-01-30T12:00:00+02:00"}, 1_769_767_200_000_000),
        (Field("v", "datetime", read=From(epoch="s")), {"v": MICROS // 1000}, "RFC 3339"),
        (Field("v", "datetime", read=From(epoch="s")), {"v": True}, "RFC 3339"),
        (Field("v", "float", read=From(text=True)), {"v": "-12.50"}, -12.5),
        (Field("v", "float", read=From(text=True)), {"v": "1e400"}, NUMBER),
        (Field("v", "float", read=From(text=True)), {"v": "NaN"}, NUMBER),
        (Field("v", "float", read=From(text=True)), {"v": "1,5"}, NUMBER),
        (Field("v", "int", read=From(text=True)), {"v": "+12"}, 12),
        (Field("v", "int", read=From(text=True)), {"v": 12}, 12),
        (Field("v", "int", read=From(text=True)), {"v": "12.0"}, "expected an integer"),
        (Field("v", "float", read=From("lines[].p", aggregate="sum")), {"lines": [{"p": 1e16}, {"p": 1.0}, {"p": -1e16}]}, 1.0),
        (
            Field("v", "float", read=From("lines[].p", aggregate="sum", text=True)),
            {"lines": [{"p": "1.5"}, {}, {"p": None}]},
            1.5,
        ),
        (Field("v", "float", read=From("lines[].p", aggregate="sum")), {"lines": []}, 0.0),
        (Field("v", "float", read=From("lines[].p", aggregate="sum")), {"lines": ["x", {"p": "x"}]}, NUMBER),
        (Field("v", "float", True, read=From("lines[].p", aggregate="mean")), {"lines": []}, None),
        (Field("v", "float", read=From("lines[].p", aggregate="mean")), {"lines": [{"p": 1}, {"p": 2}]}, 1.5),
        (Field("v", "int", read=From("o.lines[]", aggregate="count")), {"o": {"lines": [1, None, "a"]}}, 2),
        (Field("v", "int", read=From("o.lines[]", aggregate="max")), {"o": {"lines": [1, 3, 2]}}, 3),
        (Field("v", "str", read=From("o.lines[].s", aggregate="last")), {"o": {"lines": [{"s": "a"}, {"s": "b"}]}}, "b"),
        (Field("v", "int", read=From("o.lines[]", aggregate="min")), {"o": {"lines": 3}}, 3),
    ],
)
def test_a_field_is_read_as_it_is_declared(field: Field, document: dict[str, Any], value: Any) -> None:
    found = _read(field, document)
    assert found == value or (isinstance(value, str) and value in found)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (Field("v", "float", read=From("a..b")), "the path `a..b`"),
        (Field("v", "float", read=From("a[].b")), "go together"),
        (Field("v", "float", read=From("a.b", aggregate="sum")), "go together"),
        (Field("v", "float", read=From("a[].b[]", aggregate="sum")), "one \\[\\]"),
        (Field("v", "float", read=From("a[].b", aggregate="median")), "allowed: count, sum"),
        (Field("v", "int", read=From(epoch="s")), "is for datetime"),
        (Field("v", "datetime", read=From(epoch="h")), "allowed: s, ms, us"),
        (Field("v", "str", read=From(text=True)), "is for int and float"),
        (Field("v", "int", read=From(("a", "b"))), "make a str"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(field: Field, words: str) -> None:
    with pytest.raises(InvalidSystem, match=words):
        contract_of(_stream(field))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abv"), inner, max_size=3),
    max_leaves=8,
)
_reads = st.sampled_from(
    [From("a.b"), From("a[1].b"), From("a[].b", aggregate="sum"), From("a.b[]", aggregate="mean", text=True), From(text=True)]
)


@settings(max_examples=80, deadline=None)
@given(documents=st.lists(st.dictionaries(st.sampled_from("abv"), _json, max_size=3), max_size=3), read=_reads)
def test_one_event_and_many_are_read_alike_whatever_is_in_them(documents: list[dict[str, Any]], read: From) -> None:
    contract = contract_of(_stream(Field("v", "float", True, read=read)))
    common = {"id": "a", "customer": 1, "meta": {"time": 1}}
    values = [json.dumps(common | document).encode() for document in documents]
    frame, refused = contract.decode_batch(values, NOW)
    rows = dict(zip(frame["_index"].to_list(), frame["v"].to_list(), strict=True)) | dict(refused)
    for place, value in enumerate(values):
        one = contract.decode(value, NOW)
        assert rows[place] == (one if isinstance(one, Violation) else one["v"])


def test_members_that_are_no_field_are_kept_in_the_lake(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("a"), event("b", note={"by": ["x", 1]}, other=None, more=2), event("c", amount="bad", z=1)])
    apply_all(ctx)
    kept = history(ctx, "order").select("id", "_extra").rows()
    assert kept == [("a", None), ("b", '{"note":{"by":["x",1]},"more":2}')]
    assert log_history(ctx, "order")["_extra"].to_list() == history(ctx, "order")["_extra"].to_list()
    assert '"z":1' in entries(ctx, "order")[0].raw


LINES = _stream(
    Field("sku", "str", read=From("order.lines.sku")), Field("price", "float", read=From("order.lines.price", text=True)),
    explode="order.lines",
)  # fmt: skip
LINES = replace(LINES, fields=(Field("id", "str", read=From(("order.id", "order.lines.#"))), *LINES.fields[1:]))


def test_an_array_is_exploded_into_events_by_every_door(make_context: MakeContext, tmp_path: Path) -> None:
    def raw(number: int, *skus: str) -> bytes:
        lines = [{"sku": sku, "price": "1.50"} for sku in skus]
        return json.dumps({"customer": 1, "meta": {"time": 10 - number}, "order": {"id": number, "lines": lines}}).encode()

    ctx = make_context(Specs([LINES]))
    append_raw(ctx, "order", [raw(1, "a", "b"), raw(2), b'{"customer":1}', raw(3, "c")])
    (tmp_path / "a.ndjson").write_bytes(raw(4, "d", "e") + b"\n" + raw(5, "f"))
    assert ingest(ctx, "order", tmp_path / "a.ndjson").rows == 3
    apply_all(ctx, spec=LINES)
    found = history(ctx, "order")
    assert found.select("id", "sku").rows() == [
        ("1-0", "a"), ("1-1", "b"), ("3-0", "c"), ("5-0", "f"), ("4-0", "d"), ("4-1", "e"),
    ]  # fmt: skip
    assert found["price"].to_list() == [1.5] * 6
    assert [entry.raw for entry in entries(ctx, "order")] == ['{"customer":1}']


def test_a_flat_file_fills_fields_with_paths(make_context: MakeContext, tmp_path: Path) -> None:
    spec = _stream(Field("total", "float", read=From("order.total", text=True)))
    pl.DataFrame({"id": ["a"], "at": ["2026-01-30"], "customer": [1], "total": [2.5]}).write_csv(tmp_path / "a.csv")
    ctx = make_context(Specs([spec]))
    ingest(ctx, "order", tmp_path / "a.csv")
    apply_all(ctx, spec=spec)
    assert history(ctx, "order").select("id", "total").rows() == [("a", 2.5)]


@pytest.mark.parametrize(
    ("member", "kept"),
    [
        (b'"x": 1e400', '{"x":1e400}'),
        (
            b'"x": {"y": [-1e999, -0, 123456789012345678901234567890]}',
            '{"x":{"y": [-1e999, -0, 123456789012345678901234567890]}}',
        ),
        (b'"x": "a\xed\xa0\x80"', '{"x":"a\ufffd\ufffd\ufffd"}'),
        (b'"\xff": null', '{"\ufffd":null}'),
    ],
)
def test_an_unknown_member_that_no_parser_can_hold_is_kept_and_stops_nothing(
    make_context: MakeContext, member: bytes, kept: str
) -> None:
    ctx = make_context(SPECS)
    texts = [event("odd"), event("slow", at="2026-01-30")]
    append_raw(ctx, "order", [*(text[:-1] + b", " + member + b"}" for text in texts), event("next")])
    apply_all(ctx)
    assert history(ctx, "order").select("id", "_extra").rows() == [("odd", kept), ("slow", kept), ("next", None)]
    assert entries(ctx, "order") == []
    assert isinstance(contract_of(ORDER).decode(b'{"id": "\xff", ' + texts[1][13:-1] + b", " + member + b"}", NOW), Violation)


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([b'"x": ', b'"x": {"y": [', b""]),
    middle=st.lists(
        st.sampled_from(
            [b"1e400", b'"\\ud800"', b'"\xc3"', b"[", b"]", b"{", b"}", b",", b'"a":', b"-0", b"NaN", b"\xff", b" ", b'"']
        ),
        max_size=8,
    ),
    end=st.sampled_from([b"", b"]}"]),
)
def test_of_every_accepted_event_the_unknown_members_can_be_told(start: bytes, middle: list[bytes], end: bytes) -> None:
    raw = event("odd")[:-1] + b", " + start + b"".join(middle) + end + b"}"
    frame, _ = contract_of(ORDER).decode_batch([raw], NOW)
    assert len(contract_of(ORDER).unknown([raw] * frame.height)) == frame.height
