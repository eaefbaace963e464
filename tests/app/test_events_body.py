"""The body of the events door is split into events as they came, whatever is in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.app.events_body import events_of
from headrace.kernel.errors import InvalidInput

values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
events = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=4)


@given(events, st.sampled_from([None, 2]))
@settings(deadline=None, max_examples=30)
def test_an_array_gives_its_objects(given_events: list[dict[str, object]], indent: int | None) -> None:
    body = json.dumps(given_events, indent=indent).encode()
    assert [json.loads(event) for event in events_of(body, "application/json")] == given_events


@given(events, st.sampled_from(["application/x-ndjson", "application/json", ""]))
@settings(deadline=None, max_examples=30)
def test_lines_give_one_event_each(given_events: list[dict[str, object]], content_type: str) -> None:
    body = b"\n".join(json.dumps(event).encode() for event in given_events)
    assert [json.loads(event) for event in events_of(body, content_type)] == given_events


def test_one_object_may_stand_over_several_lines() -> None:
    assert events_of(b'{\n "a": 1\n}\n', "application/json") == [b'{\n "a": 1\n}']


def test_a_byte_order_mark_is_no_event() -> None:
    assert events_of(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}', "application/x-ndjson") == [b'{"a": 1}', b'{"a": 2}']


def test_broken_events_stay_events() -> None:
    assert events_of(b'{"a": 1}\n{"a": ', "application/x-ndjson") == [b'{"a": 1}', b'{"a":']
    assert events_of(b'{"a": ', "application/json") == [b'{"a":']


def test_an_array_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(InvalidInput, match="array"):
        events_of(b'[{"a": 1}, {"a": ', "application/json")


def test_nothing_is_no_event() -> None:
    assert events_of(b" \n", "application/json") == []
