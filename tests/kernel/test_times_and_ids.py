"""Times, durations, identifiers and canonical keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import checked_name, content_hash, key_bytes, key_hash, key_text, new_id, snake_case
from headrace.kernel.times import DAY, HOUR, SECOND, duration, format_time, from_micros, parse_time, to_micros

moments = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2200-01-01"))
quick = settings(max_examples=50, deadline=None)


@quick
@given(moments)
def test_a_time_survives_writing_and_reading(moment: datetime) -> None:
    micros = to_micros(moment)
    assert parse_time(format_time(micros)) == micros
    assert from_micros(micros) == moment.replace(tzinfo=UTC)


@quick
@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_time_with_an_offset_is_the_same_instant(moment: datetime, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    aware = moment.replace(tzinfo=UTC).astimezone(zone)
    assert to_micros(aware) == to_micros(moment)
    assert parse_time(aware.isoformat()) == to_micros(moment)


def test_a_written_time_ends_in_z_and_has_a_fraction_only_when_needed() -> None:
    assert format_time(0) == "1970-01-01T00:00:00Z"
    assert format_time(1) == "1970-01-01T00:00:00.000001Z"
    assert parse_time("2018-07-25") == to_micros(datetime(2018, 7, 25, tzinfo=UTC))


@pytest.mark.parametrize("text", ["yesterday", "", "2018-13-01", "12:00", None, 7])
def test_what_is_no_time_is_refused_by_its_value(text: object) -> None:
    with pytest.raises(InvalidInput, match="is not an RFC 3339 time") as caught:
        parse_time(text)  # type: ignore[arg-type]
    assert repr(text) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "micros"),
    [("1d", DAY), ("90s", 90 * SECOND), ("1.5h", 3 * HOUR // 2), ("2w", 14 * DAY), ("250ms", 250_000), ("7us", 7)],
)
def test_durations(text: str, micros: int) -> None:
    assert duration(text) == micros


@pytest.mark.parametrize("text", ["", "d", "1", "-1d", "1 d", "1y", "1d2h", "0.4us", "9" * 400 + "d", None, 5])
def test_what_is_no_duration_is_refused_with_the_units(text: object) -> None:
    with pytest.raises(InvalidInput, match="us, ms, s, m, h, d, w"):
        duration(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "text"),
    [("abc", "abc"), (17, "17"), (-3, "-3"), (True, "true"), (None, "null"), ((1, "a"), '[1,"a"]'), (("x",), "x"), ((), "[]")],
)
def test_the_canonical_text_of_a_key(key: object, text: str) -> None:
    assert key_text(key) == text  # type: ignore[arg-type]
    assert key_bytes(key) == text.encode()  # type: ignore[arg-type]


@quick
@given(st.tuples(st.text(max_size=8), st.integers(-(2**63), 2**63 - 1)))
def test_a_tuple_key_is_compact_json(key: tuple[str, int]) -> None:
    assert json.loads(key_text(key)) == list(key)
    assert ", " not in key_text((1, 2))


def test_the_hash_of_a_key_is_the_same_on_every_machine() -> None:
    assert key_hash("customer") == key_hash(("customer",))
    assert key_hash("1") == key_hash(1)
    assert key_hash(7) == -9_038_873_097_560_174_361  # hashlib.blake2b(b"7", digest_size=8), little-endian, signed
    assert len({key_hash(n) for n in range(10_000)}) == 10_000


def test_a_content_hash_ignores_the_order_of_fields_only() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing


def test_new_ids_are_distinct_version_7_uuids() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(len(i) == 32 and i[12] == "7" and i[16] in "89ab" for i in ids)
    assert ids[0][:12] <= ids[-1][:12]


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a b", "a" * 64, "ä", "a/b", "a\n"])
def test_a_name_that_is_not_allowed_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a stream"):
        checked_name("stream", name)


@pytest.mark.parametrize(
    ("name", "snake"),
    [("FraudReport", "fraud_report"), ("Transaction", "transaction"), ("HTTPRequest", "http_request"), ("A1B", "a1_b")],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake
