import time
from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import ORDER, STORY, Collected, apply_all, event

import headrace as hr
from headrace.data import quarantine
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.lake_sink import LakeSink
from headrace.data.replaying import replay
from headrace.data.retention import retain_streams
from headrace.data.retention_limits import parse_retention
from headrace.data.status import stream_status
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.events.segments import SegmentLog
from headrace.kernel.errors import InvalidInput
from headrace.kernel.specs import Specs
from headrace.kernel.times import DAY

TOPIC = "shop/streams/order"
BRIEF = replace(ORDER, retention=1)
SMALL = replace(ORDER, retention_bytes=1500)


def _small_segments(make_context: MakeContext, spec: StreamSpec) -> Context:
    ctx = make_context(Specs([spec]))
    return replace(ctx, events=SegmentLog(ctx.settings.data / "events", segment_bytes=200))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (None, (None, None)),
        ("365d", (365 * DAY, None)),
        ("1.5GB", (None, 1_500_000_000)),
        ("64 MiB", (None, 64 << 20)),
        ("2TB, 30d", (30 * DAY, 2 * 10**12)),
    ],
)
def test_retention_is_by_age_by_size_or_by_both(text: str | None, limits: tuple[int | None, int | None]) -> None:
    assert parse_retention(text) == limits


@pytest.mark.parametrize("text", ["", "1d, 2d", "1GB, 2GB", "for ever", "10", "-1GB", "1d 2GB", "9" * 400 + "GB"])
def test_no_other_retention_is_taken(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_retention(text)


def test_a_stream_declares_its_retention() -> None:
    system = hr.System("kept")

    @system.stream(id="id", key="id", time="at", retention="30d, 2GB")
    class Reading:
        id: str
        at: datetime

    (spec,) = system.specs().all(StreamSpec)
    assert (spec.retention, spec.retention_bytes) == (30 * DAY, 2 * 10**9)


def test_what_is_dropped_of_the_log_is_in_the_lake_and_known(make_context: MakeContext) -> None:
    ctx = _small_segments(make_context, BRIEF)
    for value in STORY:
        append_raw(ctx, "order", [value])
    apply_all(ctx, spec=BRIEF)
    before, refused = history(ctx, "order"), quarantine.entries(ctx, "order")
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) == ctx.events.end(TOPIC, 0) == len(STORY)
    assert_frame_equal(history(ctx, "order"), before)
    assert_frame_equal(log_history(ctx, "order"), before)
    assert_frame_equal(log_history(ctx, "order", upto=7), before.filter(pl.col("_offset") <= 7))
    ctx.online.write({key: None for key, _ in list(ctx.online.scan(b"shop/"))})
    for value in (STORY[0], event("g2", amount=77), event("fresh")):
        append_raw(ctx, "order", [value])
    apply_all(ctx, spec=BRIEF)
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered, status.quarantined) == (len(before) + 1, 3, len(refused) + 1)
    assert_frame_equal(log_history(ctx, "order"), history(ctx, "order"))


def test_what_is_not_applied_or_not_in_the_lake_stays(make_context: MakeContext) -> None:
    ctx = _small_segments(make_context, BRIEF)
    for number in range(9):
        append_raw(ctx, "order", [event(f"e{number}")])
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) == 0, "nothing is applied"
    lake, kept = LakeSink(ctx, BRIEF), Collected()
    applier = StreamApplier(ctx, BRIEF, [kept, lake])
    applier.step(4)
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) == 0, "nothing is in the lake"
    lake.flush()
    retain_streams(ctx)
    first = ctx.events.first(TOPIC, 0)
    assert 0 < first <= 4
    while applier.step(3):
        retain_streams(ctx)
    assert pl.concat(kept.frames)["id"].to_list() == history(ctx, "order")["id"].to_list() == [f"e{n}" for n in range(9)]
    assert ctx.events.first(TOPIC, 0) == first, "the lake holds 4"


def test_a_size_keeps_the_newest(make_context: MakeContext) -> None:
    ctx = _small_segments(make_context, SMALL)
    for number in range(30):
        append_raw(ctx, "order", [event(f"e{number}")])
    apply_all(ctx, spec=SMALL)
    retain_streams(ctx)
    first = ctx.events.first(TOPIC, 0)
    assert 15 < first < 29
    size = sum(path.stat().st_size for path in (ctx.settings.data / "events" / TOPIC / "@0").glob("*.segment"))
    assert 900 < size <= 1500


def test_an_event_whose_log_is_dropped_is_replayed_from_the_quarantine(make_context: MakeContext) -> None:
    """A size drops of the log alone."""
    tiny = replace(ORDER, retention_bytes=1)
    ctx = _small_segments(make_context, tiny)
    append_raw(ctx, "order", [event("negative", amount=-1)])
    for number in range(4):
        append_raw(ctx, "order", [event(f"good{number}")])
    apply_all(ctx, spec=tiny)
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) >= 1
    looser = replace(tiny, fields=tuple(replace(field, rules=()) for field in ORDER.fields))
    ctx = replace(ctx, specs=Specs([looser]))
    assert replay(ctx, "order") == {"replayed": 1, "still_bad": 0}
    apply_all(ctx, spec=looser)
    assert history(ctx, "order")["id"].to_list() == ["good0", "good1", "good2", "good3", "negative"]


def test_refused_events_go_when_the_age_is_reached_and_their_log_is_gone(make_context: MakeContext) -> None:
    ctx = _small_segments(make_context, BRIEF)
    values = [event("negative", amount=-1), *(event(f"e{n}") for n in range(3)), event("worse", amount=-2)]
    for value in values:
        append_raw(ctx, "order", [value])
    lake = LakeSink(ctx, BRIEF)
    applier = StreamApplier(ctx, BRIEF, [lake])
    while applier.step():
        pass
    retain_streams(ctx)
    assert [entry.id for entry in quarantine.entries(ctx, "order")] == ["negative", "worse"], "the log still has them"
    assert history(ctx, "order")["id"].to_list() == ["e0", "e1", "e2"]
    lake.flush()
    day = replace(BRIEF, retention=DAY)
    retain_streams(replace(ctx, specs=Specs([day])))
    assert len(quarantine.entries(ctx, "order")) == 2, "they are younger than a day"
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) == len(values)
    assert quarantine.entries(ctx, "order") == []
    folder = ctx.settings.data / "events" / ctx.namespace.quarantine("order") / "@0"
    assert not any(b"negative" in path.read_bytes() for path in folder.iterdir())
    append_raw(ctx, "order", [event("again", amount=-3)])
    apply_all(ctx, spec=BRIEF)
    assert [(entry.id, entry.offset) for entry in quarantine.entries(ctx, "order")] == [("again", 5)]
    (status,) = stream_status(ctx)
    assert (status.accepted, status.quarantined) == (3, 3), "the counts stay"


def test_an_old_refused_event_goes_although_newer_ones_follow_it(make_context: MakeContext) -> None:
    """With segments so large that all would lie in one."""
    spec = replace(ORDER, retention=200_000)
    ctx = make_context(Specs([spec]))
    for number in range(2):
        append_raw(ctx, "order", [event(f"bad{number}", amount=-1), event(f"good{number}")])
        apply_all(ctx, spec=spec)
        if number == 0:
            time.sleep(0.05)
            retain_streams(ctx)
            time.sleep(0.17)
    retain_streams(ctx)
    assert "bad0" not in [entry.id for entry in quarantine.entries(ctx, "order")]
    assert ctx.events.first(TOPIC, 0) >= 2
    assert history(ctx, "order")["id"].to_list() == ["good0", "good1"]


def test_retention_holds_for_a_stream_of_refused_events_alone(make_context: MakeContext) -> None:
    ctx = _small_segments(make_context, BRIEF)
    for number in range(4):
        append_raw(ctx, "order", [event(f"bad{number}", amount=-1)])
    apply_all(ctx, spec=BRIEF)
    retain_streams(ctx)
    assert ctx.events.first(TOPIC, 0) == 4
    assert quarantine.entries(ctx, "order") == []
    assert history(ctx, "order").is_empty()
    append_raw(ctx, "order", [event("good")])
    apply_all(ctx, spec=BRIEF)
    assert history(ctx, "order")["id"].to_list() == log_history(ctx, "order")["id"].to_list() == ["good"]
