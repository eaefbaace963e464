from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from conftest import NOW, MakeContext
from polars.testing import assert_frame_equal
from shop_world import AGAIN, BAD, GOOD, ORDER, SPECS, STORY, Collected, Faults, Killed, apply_all, dying, event

from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.lake_sink import LakeSink
from headrace.data.positions import check_logs
from headrace.data.quarantine import entries
from headrace.data.records import event_schema
from headrace.data.status import stream_status
from headrace.data.types import Field
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import CheckFailed, NotFound
from headrace.kernel.specs import Specs
from headrace.kernel.times import DAY, parse_time


def test_good_events_pass_bad_ones_are_quarantined_and_redeliveries_dropped(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY)
    kept = Collected()
    apply_all(ctx, kept)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered, status.quarantined) == (len(GOOD), 2, len(BAD))
    assert (status.position, status.lag, status.watermark) == (len(STORY), 0, "2026-01-30T10:00:00Z")
    frame = pl.concat(kept.frames)
    assert frame["id"].to_list() == [f"g{n}" for n in range(6)]
    assert frame["_offset"].to_list() == [STORY.index(value) for value in GOOD]
    assert frame["_created"].to_list() == [NOW] * 6
    assert frame.schema == event_schema(ORDER)
    listed = {entry.offset: entry for entry in entries(ctx, "order")}
    assert sorted(listed) == [STORY.index(value) for value in BAD]
    for value, (field, reason) in BAD.items():
        entry = listed[STORY.index(value)]
        assert entry.field == field
        assert reason in entry.reason
        assert entry.raw == (value.decode() if value != b"\xff" else "/w==")
    assert listed[STORY.index(event("negative", amount=-1))].value == "-1"
    assert listed[STORY.index(event("negative", amount=-1))].id == "negative"


def test_history_is_the_same_from_the_lake_the_tail_and_the_log(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY[:9])
    apply_all(ctx)
    append_raw(ctx, "order", STORY[9:])
    applier = StreamApplier(ctx, ORDER, [LakeSink(ctx, ORDER)])
    while applier.step(3):
        pass
    unflushed = history(ctx, "order")
    assert unflushed["id"].to_list() == [f"g{n}" for n in range(6)]
    assert ctx.lake.read("shop/streams/order").height < 6
    assert_frame_equal(log_history(ctx, "order"), unflushed)
    assert_frame_equal(log_history(ctx, "order", upto=8), unflushed.filter(pl.col("_offset") <= 8))
    apply_all(ctx)
    stored = ctx.lake.read("shop/streams/order")
    assert stored.select(pl.len(), pl.col("_partition").max()).row(0) == (6, 0)
    assert_frame_equal(history(ctx, "order"), unflushed)


def test_events_not_yet_applied_are_not_history(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    assert history(ctx, "order").schema == event_schema(ORDER)
    append_raw(ctx, "order", GOOD)
    assert history(ctx, "order").is_empty()
    assert log_history(ctx, "order").height == len(GOOD)
    assert stream_status(ctx)[0].lag == len(GOOD)
    with pytest.raises(NotFound, match="`order`"):
        history(ctx, "orders")


def test_created_is_the_declared_column_the_time_of_a_history_or_the_time_of_arrival(make_context: MakeContext) -> None:
    clock = FixedEventClock(NOW)
    ctx = make_context(SPECS, clock=clock)
    append_raw(ctx, "order", [event("old")], history=True)
    append_raw(ctx, "order", [event("new")])
    clock.set(NOW + DAY)
    append_raw(ctx, "order", [event("newer")])
    apply_all(ctx)
    assert history(ctx, "order")["_created"].to_list() == [parse_time("2026-01-30T10:00:00Z"), NOW, NOW + DAY]
    declared = replace(ORDER, name="noted", fields=(*ORDER.fields, Field("noted", "datetime")), created="noted")
    ctx = make_context(Specs([declared]), system="other")
    append_raw(ctx, "noted", [event("a", noted="2026-01-31T00:00:00Z")])
    apply_all(ctx, spec=declared)
    assert history(ctx, "noted")["_created"].to_list() == [parse_time("2026-01-31T00:00:00Z")]


def test_an_event_is_judged_by_the_clock_at_its_arrival(make_context: MakeContext) -> None:
    clock = FixedEventClock(NOW - 10 * DAY)
    ctx = make_context(SPECS, clock=clock)
    append_raw(ctx, "order", [event("early")])
    clock.set(NOW)
    append_raw(ctx, "order", [event("in_time")])
    apply_all(ctx)
    assert history(ctx, "order")["id"].to_list() == ["in_time"]
    assert [entry.id for entry in entries(ctx, "order")] == ["early"]


def test_a_record_that_came_into_the_log_otherwise_arrived_at_its_timestamp(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("a")])
    ctx.events.append("shop/streams/order", 0, [event("b"), event("year_3000", at="3000-01-01T00:00:00Z")])
    apply_all(ctx)
    stored = ctx.events.read("shop/streams/order", 0, 0).timestamps
    assert history(ctx, "order")["_created"].to_list() == [NOW, stored[1]]
    assert [entry.id for entry in entries(ctx, "order")] == ["year_3000"]


@pytest.mark.parametrize("flush_rows", [1, 1000])
def test_a_step_killed_at_any_write_and_done_again_loses_and_doubles_nothing(
    make_context: MakeContext, flush_rows: int
) -> None:
    expected = None
    for at in range(200):
        system = f"shop{at}"
        ctx = make_context(SPECS, system=system)
        append_raw(ctx, "order", STORY)
        kept, faults = Collected(), Faults(at)
        try:
            apply_all(dying(ctx, faults), kept, max_records=5, flush_rows=flush_rows)
            died = False
        except Killed:
            died = True
        apply_all(ctx, kept, max_records=7)
        (status,) = stream_status(ctx)
        found = (
            pl.concat(kept.frames)["_offset"].to_list(),
            ctx.lake.read(f"{system}/streams/order")["_offset"].sort().to_list(),
            [(entry.offset, entry.reason) for entry in entries(ctx, "order")],
            (status.accepted, status.redelivered, status.quarantined),
        )
        expected = expected or found
        assert found == expected, f"killed at write {at}"
        if not died:
            break
    assert at > 15
    assert expected is not None
    assert (len(expected[0]), len(expected[1]), len(expected[2])) == (len(GOOD), len(GOOD), len(BAD))


def test_what_was_refused_stays_refused_when_the_contract_is_loosened_before_the_step_is_done_again(
    make_context: MakeContext,
) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [*GOOD, event("negative", amount=-1)])
    with pytest.raises(Killed):
        apply_all(dying(ctx, Faults(5)))
    assert len(entries(ctx, "order")) == 1
    looser = replace(ORDER, fields=tuple(replace(field, rules=()) for field in ORDER.fields))
    ctx = make_context(Specs([looser]))
    apply_all(ctx, spec=looser)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.quarantined) == (len(GOOD), 1)
    assert log_history(ctx, "order").height == len(GOOD)


def test_the_index_of_ids_is_rebuilt_when_the_online_store_is_lost(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY)
    apply_all(ctx)
    ctx.online.write({key: None for key, _ in list(ctx.online.scan(b"shop/"))})
    append_raw(ctx, "order", [AGAIN, event("g2", amount=77), event("fresh")])
    apply_all(ctx)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered, status.quarantined) == (len(GOOD) + 1, 3, len(BAD) + 1)


def test_a_lost_lake_table_is_written_again_from_the_log(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY)
    apply_all(ctx)
    before = history(ctx, "order")
    (tmp_path / "data" / "lake" / "shop").rename(tmp_path / "lost")
    apply_all(ctx)
    assert_frame_equal(history(ctx, "order"), before)
    assert ctx.lake.read("shop/streams/order").height == len(GOOD)


def test_a_log_that_lost_applied_events_is_found(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY[:-1])
    append_raw(ctx, "order", STORY[-1:])
    apply_all(ctx)
    check_logs(ctx)
    ctx.close()
    (segment,) = (ctx.settings.data / "events").glob("*/streams/order/@0/*.segment")
    content = bytearray(segment.read_bytes())
    content[-3] ^= 1
    segment.write_bytes(content)
    with pytest.raises(CheckFailed, match="acknowledged as durable"):
        check_logs(make_context(SPECS))
    (segment.parent / ".synced").unlink()  # as in a restored backup
    with pytest.raises(CheckFailed, match=f"ends at offset {len(STORY) - 1}, but was applied up to {len(STORY)}"):
        check_logs(make_context(SPECS))


def test_very_long_ids_are_kept_apart(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("x" * 600), event("x" * 601), event("x" * 600)])
    apply_all(ctx)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered) == (2, 1)


def test_a_new_nullable_field_leaves_redeliveries_redeliveries(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", GOOD)
    apply_all(ctx)
    wider = replace(ORDER, fields=(Field("note", "str", True), *ORDER.fields))
    ctx = make_context(Specs([wider]))
    append_raw(ctx, "order", [*GOOD, event("noted", note="x")])
    apply_all(ctx, spec=wider)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered, status.quarantined) == (len(GOOD) + 1, len(GOOD), 0)
    assert history(ctx, "order")["note"].to_list() == [None] * len(GOOD) + ["x"]


def test_two_systems_leave_no_trace_in_each_other(make_context: MakeContext) -> None:
    first, second = make_context(SPECS, system="one"), make_context(SPECS, system="two")
    append_raw(first, "order", STORY)
    apply_all(first)
    apply_all(second)
    assert history(second, "order").is_empty()
    assert stream_status(second)[0].end == 0
    assert entries(second, "order") == []
    append_raw(second, "order", GOOD)
    apply_all(second)
    assert stream_status(second)[0].accepted == len(GOOD)


APPLY = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import headrace.data.tables
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from shop_world import SPECS, apply_all
print("ready", flush=True)
ctx = open_context(Settings(data=Path(sys.argv[1])), "shop", SPECS, clock=FixedEventClock(0))
apply_all(ctx, max_records=40)
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_while_applying_goes_on_where_it_was(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    values = [event(f"e{n % 7000}", amount=-1 if n % 11 == 0 else 3) for n in range(8000)]
    append_raw(ctx, "order", values)
    good = {f"e{n % 7000}" for n in range(8000) if n % 11}
    command = [sys.executable, "-c", APPLY, str(tmp_path / "data"), str(Path(__file__).parent)]
    for kill in range(5):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if kill < 4:
            time.sleep(0.06 * (kill + 1))
            os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=60)
        child.stdout.close()
    (status,) = stream_status(ctx)
    refused = entries(ctx, "order")
    assert status.lag == 0
    assert set(history(ctx, "order")["id"]) == good
    assert status.accepted == len(good) == history(ctx, "order").height
    assert len(refused) == len({entry.offset for entry in refused}) == status.quarantined
    assert status.accepted + status.redelivered + status.quarantined == len(values)
    assert ctx.lake.read("shop/streams/order")["_offset"].n_unique() == len(good)
