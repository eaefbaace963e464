"""Requests: typed, identified, timed; refused with the field at fault."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import pytest
from serving_world import SPECS, order, service

from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.times import parse_time
from headrace.serving.requests import RequestReader

NOW = parse_time("2026-01-31T12:00:00Z")
READER = RequestReader("shop", service, SPECS, FixedEventClock(NOW))


def raw(**changes: Any) -> bytes:
    return json.dumps({**order(7), **changes}).encode()


def test_a_request_is_identified_by_its_id_field_and_asked_at_its_time() -> None:
    asked = READER.read(raw(), None)
    assert asked.id == "shop-" + blake2b(b"quiet\x007", digest_size=16).hexdigest()
    assert asked.key == "7" and asked.own_id == 7
    assert asked.at == parse_time("2026-01-31T11:00:00Z")
    assert (asked.entity, asked.sticky) == ("ann", True)


def test_the_idempotency_key_wins_and_the_content_decides_the_digest() -> None:
    first, second = READER.read(raw(), "k"), READER.read(raw(order_id=8), "k")
    assert first.id == second.id != READER.read(raw(), None).id
    assert first.digest != second.digest
    spaced = json.dumps(dict(reversed(order(7).items())), indent=3).encode()
    assert READER.read(spaced, "k").digest == first.digest


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (raw(amount="ten"), "amount"),
        (raw(amount=-1), "amount"),
        (raw(colour="red"), "colour"),
        (raw(customer_id=None), "customer_id"),
        (json.dumps({k: v for k, v in order(7).items() if k != "at"}).encode(), "at"),
        (raw(at="2026-01-31T12:06:00Z"), "at"),
        (raw(at="yesterday"), "at"),
        (b'{"order_id": NaN}', "order_id"),
        (b"[1]", None),
        (b"{", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_bad_request_names_the_field(body: bytes, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        READER.read(body, None)
    assert caught.value.field == field
    assert field is None or f"`{field}`" in caught.value.message


def test_a_request_may_be_a_little_ahead_of_the_clock() -> None:
    assert READER.read(raw(at="2026-01-31T12:05:00Z"), None).at == NOW + 300_000_000
