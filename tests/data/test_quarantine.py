from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import NOW, MakeContext
from shop_world import BAD, GOOD, ORDER, SPECS, STORY, Faults, Killed, apply_all, dying, event

from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.data.quarantine import entries, replay
from headrace.data.status import stream_status
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import NotFound
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time

LOOSE = replace(ORDER, fields=tuple(replace(field, rules=()) for field in ORDER.fields))


def test_a_replay_appends_only_what_is_good_today(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY)
    apply_all(ctx)
    assert replay(ctx, "order") == {"replayed": 0, "still_bad": len(BAD)}
    ctx = make_context(Specs([LOOSE]))
    assert replay(ctx, "order") == {"replayed": 1, "still_bad": len(BAD) - 1}
    apply_all(ctx, spec=LOOSE)
    assert "negative" not in {entry.id for entry in entries(ctx, "order")}
    assert len(entries(ctx, "order")) == len(BAD) - 1
    assert history(ctx, "order")["id"].to_list() == [*(f"g{n}" for n in range(6)), "negative"]
    assert history(ctx, "order")["_offset"].to_list()[-1] == len(STORY)
    assert log_history(ctx, "order").equals(history(ctx, "order"))
    assert replay(ctx, "order") == {"replayed": 0, "still_bad": len(BAD) - 1}


def test_one_event_is_replayed_by_its_id(make_context: MakeContext) -> None:
    clock = FixedEventClock(NOW)
    ctx = make_context(SPECS, clock=clock)
    append_raw(ctx, "order", [*GOOD, event("later", at="2026-03-01T00:00:00Z"), event("much_later", at="2027-03-01T00:00:00Z")])
    apply_all(ctx)
    clock.set(parse_time("2028-01-01T00:00:00Z"))
    assert replay(ctx, "order", "later") == {"replayed": 1, "still_bad": 0}
    apply_all(ctx)
    assert [entry.id for entry in entries(ctx, "order")] == ["much_later"]
    assert stream_status(ctx)[0].accepted == len(GOOD) + 1
    with pytest.raises(NotFound, match="much_later"):
        replay(ctx, "order", "later")


def test_an_id_that_came_with_other_content_stays_refused(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("a"), event("a", amount=7)])
    apply_all(ctx)
    assert replay(ctx, "order") == {"replayed": 0, "still_bad": 1}


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_replay_killed_anywhere_is_done_again_without_doubling(make_context: MakeContext, at: int) -> None:
    append_raw(make_context(SPECS), "order", STORY)
    apply_all(make_context(SPECS))
    ctx = make_context(Specs([LOOSE]))
    with pytest.raises(Killed):
        replay(dying(ctx, Faults(at)), "order")
    apply_all(ctx, spec=LOOSE)
    replay(ctx, "order")
    apply_all(ctx, spec=LOOSE)
    assert history(ctx, "order")["id"].to_list().count("negative") == 1
    assert len(entries(ctx, "order")) == len(BAD) - 1


def test_unknown_streams_are_named(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    for ask in (entries, replay):
        with pytest.raises(NotFound, match="`order`"):
            ask(ctx, "orders")
