from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import polars as pl
import pytest
from conftest import NOW, MakeContext
from shop_world import BAD, GOOD, ORDER, SPECS, STORY, Faults, Killed, apply_all, dying, event

from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.data.quarantine import Chosen, entries
from headrace.data.replaying import fix, replay
from headrace.data.status import stream_status
from headrace.engines.context import Context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import Conflict, InvalidInput, NotFound
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time
from headrace.pipelines.claims import Claim

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
    assert replay(ctx, "order", Chosen("later")) == {"replayed": 1, "still_bad": 0}
    apply_all(ctx)
    assert [entry.id for entry in entries(ctx, "order")] == ["much_later"]
    assert stream_status(ctx)[0].accepted == len(GOOD) + 1
    with pytest.raises(NotFound, match="much_later"):
        replay(ctx, "order", Chosen("later"))


def test_an_id_that_came_with_other_content_stays_refused(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("a"), event("a", amount=7)])
    apply_all(ctx)
    assert replay(ctx, "order") == {"replayed": 0, "still_bad": 1}


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("mended", [False, True])
def test_a_replay_killed_at_any_write_is_in_the_log_once(make_context: MakeContext, at: int, mended: bool) -> None:
    append_raw(make_context(SPECS), "order", STORY)
    apply_all(make_context(SPECS))
    ctx = make_context(SPECS if mended else Specs([LOOSE]))

    def again(ctx: Context) -> None:
        if mended and any(entry.id == "negative" for entry in entries(ctx, "order")):
            with suppress(NotFound):
                fix(ctx, "order", "negative", json.loads(event("negative", amount=1)))
        else:
            replay(ctx, "order")

    with pytest.raises(Killed):
        again(dying(ctx, Faults(at)))
    if at % 3 == 0:
        apply_all(ctx, spec=ORDER if mended else LOOSE)
    again(ctx)
    again(ctx)
    values = ctx.events.read("shop/streams/order", 0, len(STORY)).values
    assert values == [event("negative", amount=1 if mended else -1)]
    apply_all(ctx, spec=ORDER if mended else LOOSE)
    assert history(ctx, "order")["id"].to_list().count("negative") == 1
    assert len(entries(ctx, "order")) == len(BAD) - 1


def test_the_waiting_events_are_browsed_in_pages_and_by_reason(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY)
    apply_all(ctx)
    every = entries(ctx, "order")
    pages = [entries(ctx, "order", Chosen(limit=3))]
    while pages[-1]:
        pages.append(entries(ctx, "order", Chosen(after=pages[-1][-1].offset, limit=3)))
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [entry for page in pages for entry in page] == every
    assert [e.id for e in entries(ctx, "order", Chosen(reason="BELOW the"))] == ["negative"]
    assert [e.id for e in entries(ctx, "order", Chosen(field="at"))] == ["year_3000"]
    assert [e.id for e in entries(ctx, "order", Chosen(rule="customer.null"))] == ["no_key"]
    assert len(entries(ctx, "order", Chosen(rule="json"))) == 2
    with pytest.raises(InvalidInput, match="limit=0"):
        entries(ctx, "order", Chosen(limit=0))


def test_one_event_is_mended_and_replayed(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [*STORY, event("negative", amount=-3)])
    apply_all(ctx)
    good = json.loads(event("negative", amount=3))
    with pytest.raises(InvalidInput, match="2 events of `order` wait with the id `negative`"):
        fix(ctx, "order", "negative", good)
    offsets = [entry.offset for entry in entries(ctx, "order", Chosen(id="negative"))]
    with pytest.raises(InvalidInput, match="refused too: `amount` below the minimum 0"):
        fix(ctx, "order", "negative", good | {"amount": -1}, offset=offsets[1])
    with pytest.raises(InvalidInput, match="the same id came before"):
        fix(ctx, "order", "negative", good | {"id": "g0"}, offset=offsets[1])
    with pytest.raises(NotFound, match="negative"):
        fix(ctx, "order", "negative", good, offset=0)
    assert fix(ctx, "order", "negative", good, offset=offsets[1]) == {"replayed": 1, "still_bad": 0}
    apply_all(ctx)
    assert [entry.offset for entry in entries(ctx, "order", Chosen(id="negative"))] == offsets[:1]
    assert history(ctx, "order").filter(pl.col("id") == "negative")["amount"].to_list() == [3.0]
    unreadable = next(entry for entry in entries(ctx, "order") if entry.id.startswith("offset-"))
    fix(ctx, "order", unreadable.id, good | {"id": "read"})
    assert not entries(ctx, "order", Chosen(id=unreadable.id))


def test_one_replay_runs_at_a_time(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    claim = Claim(ctx.run_folder / "claims", "replay", "order")
    assert claim.take()
    with pytest.raises(Conflict):
        replay(ctx, "order")
    claim.release()
    assert replay(ctx, "order") == {"replayed": 0, "still_bad": 0}


def test_unknown_streams_are_named(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    for ask in (entries, replay):
        with pytest.raises(NotFound, match="`order`"):
            ask(ctx, "orders")
