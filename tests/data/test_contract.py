"""The three executions of one contract agree: the definition, the typed decoder, the Polars expressions."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data.checking import check_document
from headrace.data.contract import Contract
from headrace.data.frames import time_micros
from headrace.data.types import Field, OneOf, Pattern, Range, Violation
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.times import DAY, parse_time, to_micros

NOW = parse_time("2026-01-31T12:00:00Z")
FIELDS = (
    Field("number", "int", rules=(Range(min=0, max=1000),)),
    Field("at", "datetime"),
    Field("price", "float", True, (Range(min=-1.5),)),
    Field("color", "str", True, (OneOf(("red", "blue")),)),
    Field("code", "str", rules=(Pattern("[a-z]{2}|é"),)),
    Field("level", "int", True, (OneOf((1, 2)),)),
    Field("paid", "bool", True),
    Field("due", "datetime", True),
)
CONTRACT = Contract(FIELDS, time="at", max_future=DAY)
GOOD = {"number": 1, "at": "2026-01-31T12:00:00Z", "price": 2.5, "color": "red", "code": "ab", "level": 1, "paid": True}

_times = st.one_of(
    st.integers(NOW // 1000 - 10_000, NOW // 1000 + 2 * 86_400_000),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 2, 3)).map(lambda d: d.isoformat()),  # noqa: DTZ001
    st.sampled_from(["2026-01-31", "2026-01-31T12:00:00+14:00", "2026-01-31t01:02:03.123456z", "0001-01-01T00:00:00+01:00"]),
)
_numbers = st.one_of(st.integers(-2, 1002), st.sampled_from([2**63, -(2**70), 10**400, 1.0, 1e999, math.nan]))
_values = {
    "number": st.integers(-1, 1001),
    "at": _times,
    "price": st.none() | st.integers(-2, 3) | st.floats(-3, 3),
    "color": st.none() | st.sampled_from(["red", "blue", "green"]),
    "code": st.sampled_from(["ab", "é", "abc", "ab\n", "AB"]),
    "level": st.none() | st.integers(0, 3),
    "paid": st.none() | st.booleans(),
    "due": st.none() | _times,
}
_anything = st.one_of(st.none(), st.booleans(), _numbers, st.floats(), st.text(max_size=3), _times, st.just([]), st.just({}))


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    document = {name: draw(values) for name, values in _values.items()}
    for name in draw(st.lists(st.sampled_from([*_values, "other"]), max_size=2)):
        document[name] = draw(_anything)
    for name in draw(st.lists(st.sampled_from(list(_values)), max_size=1)):
        document.pop(name, None)
    return document


def _defined(document: Any, now: int) -> dict[str, Any] | Violation:
    """The answer by definition: `check_document` and the rule of the future."""
    checked = check_document(FIELDS, document)
    if isinstance(checked, dict) and checked["at"] > now + DAY:
        return Violation("at", "more than 86400 s ahead of the clock", "")
    return checked


def _same(found: dict[str, Any] | Violation, expected: dict[str, Any] | Violation) -> bool:
    if isinstance(found, Violation) and isinstance(expected, Violation):
        return (found.field, found.reason) == (expected.field, expected.reason)
    return found == expected


@settings(max_examples=60, deadline=None)
@given(documents=st.lists(_documents(), min_size=1, max_size=6))
def test_decoding_one_or_many_events_agrees_with_the_definition(documents: list[dict[str, Any]]) -> None:
    values = [json.dumps(document).encode() for document in documents]
    frame, refused = CONTRACT.decode_batch(values, NOW)
    reasons = dict(refused)
    rows = dict(zip(frame["_index"].to_list(), frame.drop("_index").to_dicts(), strict=True))
    assert sorted([*rows, *reasons]) == list(range(len(values)))
    for place, document in enumerate(documents):
        expected = _defined(json.loads(values[place]), NOW)
        infinite = any(isinstance(v, float) and not math.isfinite(v) for v in document.values())
        if infinite and isinstance(check_document(FIELDS, document), dict):
            assert reasons[place].reason.startswith("not JSON"), "NaN in a field that nobody reads"
            continue
        assert _same(CONTRACT.decode(values[place], NOW), expected), document
        if isinstance(expected, Violation):
            assert _same(reasons[place], expected), document
        else:
            found = {n: to_micros(v) if isinstance(v, datetime) else v for n, v in rows[place].items()}
            assert found == expected


_typed = {
    "number": st.integers(-1, 1001),
    "at": st.datetimes(datetime(2026, 1, 20), datetime(2026, 2, 3)),  # noqa: DTZ001
    "price": st.floats(-3, 3, width=32) | st.sampled_from([math.nan, math.inf]),
    "color": st.sampled_from(["red", "blue", "green"]),
    "code": st.sampled_from(["ab", "é", "abc", "ab\n", ""]),
    "level": st.integers(0, 3),
    "paid": st.booleans(),
    "due": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001
}
_TYPES: dict[str, list[Any]] = {
    "number": [pl.Int64, pl.Int16, pl.String], "at": [pl.Datetime("us", "UTC"), pl.Datetime("ms")],
    "price": [pl.Float64, pl.Float32], "color": [pl.String], "code": [pl.String],
    "level": [pl.Int64, pl.Float64], "paid": [pl.Boolean], "due": [pl.Datetime("us")],
}  # fmt: skip


@st.composite
def _frames(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(1, 5))
    columns = []
    for name, values in _typed.items():
        drawn = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        dtype = draw(st.sampled_from(_TYPES[name]))
        drawn = [str(v) if dtype == pl.String and v is not None else v for v in drawn]
        columns.append(pl.Series(name, drawn, strict=False, dtype=dtype))
    return pl.DataFrame(columns).drop(draw(st.lists(st.sampled_from(list(_typed)), max_size=1)))


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


@settings(max_examples=60, deadline=None)
@given(frame=_frames())
def test_expressions_over_a_frame_agree_with_the_definition(frame: pl.DataFrame) -> None:
    found = {row["_index"]: (row["field"], row["reason"]) for row in CONTRACT.check_frame(frame, NOW).to_dicts()}
    expected = {}
    for place, row in enumerate(frame.to_dicts()):
        checked = _defined(_document(row), NOW)
        if isinstance(checked, Violation):
            expected[place] = (checked.field, checked.reason)
    assert found == expected
    good = frame.with_row_index("_row").filter(~pl.col("_row").is_in(list(found))).drop("_row")
    typed = CONTRACT.conform(good)
    assert typed.schema == pl.Schema(CONTRACT.schema)
    assert CONTRACT.check_frame(typed, NOW).is_empty()


@settings(max_examples=60, deadline=None)
@given(moment=st.datetimes(), offset=st.sampled_from(["", "Z", "+00:00", "+0000", "-02:30", "+14:00", "-2359", "+24:00", "x"]),
       separator=st.sampled_from("T "))  # fmt: skip
def test_a_column_of_texts_is_read_as_single_texts_are(moment: datetime, offset: str, separator: str) -> None:
    text = moment.isoformat(separator) + offset
    checked = check_document((Field("at", "datetime"),), {"at": text})
    frame = pl.DataFrame({"at": [text]})
    assert frame.select(time_micros(frame, "at")).item() == (None if isinstance(checked, Violation) else checked["at"])


def _frame_of(**changed: Any) -> pl.DataFrame:
    return pl.DataFrame([GOOD | changed], strict=False)


def test_a_frame_with_text_or_integer_times_is_read_as_events_are() -> None:
    for at, micros in (("2026-01-31T12:00:00+01:00", NOW - 3_600_000_000), (NOW // 1000, NOW)):
        frame = _frame_of(at=at)
        assert CONTRACT.check_frame(frame, NOW).is_empty()
        assert CONTRACT.conform(frame)["at"].to_physical().to_list() == [micros]
    assert CONTRACT.check_frame(_frame_of(at="yesterday"), NOW)["field"].to_list() == ["at"]


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        (b'{"number": 1, "at": "2026-', None, "not JSON"),
        (b"", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"[1]", None, "expected a JSON object"),
        (b'{"a":1},{"a":2}', None, "not JSON"),
        (b'{"at": 1}', "number", "is missing"),
        (b'{"number": null}', "number", "is null"),
        (b'{"number": "1"}', "number", "expected an integer"),
        (b'{"number": true}', "number", "expected an integer"),
        (b'{"number": 1, "at": "x"}', "at", "RFC 3339"),
        (b'{"number": 1, "at": 1.5}', "at", "RFC 3339"),
        (b'{"number": 1, "at": 99999999999999999}', "at", "RFC 3339"),
        (b'{"number": 1, "at": "3000-01-01T00:00:00Z", "code": "ab"}', "at", "ahead of the clock"),
        (b'{"number": 1, "at": 0, "price": NaN}', "price", "not a finite number"),
        (b'{"number": 1, "at": 0, "price": 1e999}', "price", "not a finite number"),
        (b'{"number": 1, "at": 0, "price": -2}', "price", "below the minimum"),
        (b'{"number": 1001}', "number", "above the maximum"),
        (b'{"number": 1, "at": 0, "color": "green"}', "color", "not one of"),
        (b'{"number": 1, "at": 0, "code": "abc"}', "code", "does not match"),
    ],
)
def test_a_refused_event_names_field_and_reason(raw: bytes, field: str | None, reason: str) -> None:
    _, refused = CONTRACT.decode_batch([raw], NOW)
    for violation in (CONTRACT.decode(raw, NOW), refused[0][1]):
        assert isinstance(violation, Violation)
        assert violation.field == field
        assert reason in violation.reason


def test_values_that_only_together_are_json_do_not_pass() -> None:
    whole = json.dumps(GOOD).encode()
    values = [whole + b"," + whole, whole[:-1] + b', "x": [1', b"2]}"]
    frame, refused = CONTRACT.decode_batch(values, NOW)
    assert frame.is_empty()
    assert [place for place, _ in refused] == [0, 1, 2]


@pytest.mark.parametrize(
    ("number", "price", "valid"), [(0, -1.5, True), (1000, 0.0, True), (-1, 0.0, False), (1001, 0.0, False), (1, -1.51, False)]
)
def test_the_ends_of_a_range_belong_to_it(number: int, price: float, valid: bool) -> None:
    document = GOOD | {"number": number, "price": price}
    assert isinstance(CONTRACT.decode(json.dumps(document).encode(), NOW), dict) == valid
    assert CONTRACT.check_frame(pl.DataFrame([document]), NOW).is_empty() == valid


@pytest.mark.parametrize(("ahead", "valid"), [(0, True), (1000, False)])
def test_the_latest_allowed_time_belongs_to_the_allowed_ones(ahead: int, valid: bool) -> None:
    document = GOOD | {"at": (NOW + DAY + ahead) // 1000}
    raw = json.dumps(document).encode()
    assert isinstance(CONTRACT.decode(raw, NOW), dict) == valid
    assert CONTRACT.decode_batch([raw], NOW)[0].height == valid
    assert CONTRACT.check_frame(pl.DataFrame([document]), NOW).is_empty() == valid


def test_each_event_may_have_its_own_now() -> None:
    raw = json.dumps(GOOD).encode()
    frame, refused = CONTRACT.decode_batch([raw, raw], np.array([NOW - 2 * DAY, NOW]))
    assert (frame["_index"].to_list(), [place for place, _ in refused]) == ([1], [0])


def test_a_naive_time_is_utc_and_others_are_converted() -> None:
    for text in ("2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00:00Z", NOW // 1000):
        decoded = CONTRACT.decode(json.dumps(GOOD | {"at": text}).encode(), NOW)
        assert isinstance(decoded, dict)
        assert decoded["at"] == NOW
    assert (datetime(2026, 1, 31, 12, tzinfo=UTC) - timedelta(microseconds=NOW)).timestamp() == 0


def test_a_request_may_lie_ahead_but_not_have_unknown_fields() -> None:
    later = GOOD | {"at": "2999-01-01T00:00:00Z"}
    assert isinstance(CONTRACT.decode_row(json.dumps(later).encode()), dict)
    for refused in (CONTRACT.decode_row(json.dumps(later | {"more": 1}).encode()), CONTRACT.check_row(later | {"more": 1})):
        assert isinstance(refused, Violation)
        assert refused.field == "more"
        assert "known: number" in refused.reason


@pytest.mark.parametrize(
    "field",
    [
        Field("x", "str", rules=(Range(min=0),)),
        Field("x", "bool", rules=(OneOf(("a",)),)),
        Field("x", "str", rules=(Pattern("("),)),
        Field("x", "int", rules=(Range(min=0), Range(max=1))),
    ],
)
def test_a_rule_that_cannot_hold_is_refused(field: Field) -> None:
    with pytest.raises(InvalidSystem, match="`x`"):
        Contract((field,), time=None, max_future=0)
