from __future__ import annotations

from pathlib import Path

import pytest
from monitoring_world import START, Day, Traffic, opened, register
from sqlalchemy import select

from headrace.engines.context import Context
from headrace.kernel.times import DAY, HOUR, format_time
from headrace.ledger.tables import OUTBOX
from headrace.monitoring.alarms import alarms
from headrace.monitoring.operations import show_cohorts, show_drift
from headrace.monitoring.types import Alarm, WatchSpec
from headrace.monitoring.watching import watch_step


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    opened_ = opened(tmp_path / "data")
    register(opened_, 1, {"test.log_loss": 0.5})
    return opened_


def watched(ctx: Context, now: int) -> list[Alarm]:
    return watch_step(ctx, ctx.specs.get(WatchSpec, "scoring"), now)


def drifted(found: list[Alarm]) -> list[tuple[str, str, str]]:
    return [(a.at, a.kind, a.feature) for a in found]


def test_no_alarm_without_a_shift_and_one_on_its_first_days(ctx: Context) -> None:
    traffic = Traffic(ctx)
    found: list[tuple[str, str, str]] = []
    for day in range(24):
        traffic.serve(Day(300, scale=1.0 if day < 14 else 2.5))
        traffic.flush()
        found += drifted(watched(ctx, START + (day + 1) * DAY))
    assert [f for f in found if f[0] <= format_time(START + 14 * DAY)] == []
    first = min(found)
    assert first[1] == "drift"
    assert {f[2] for f in found} == {"amount", "half"}, "the score has not moved"
    assert first[0] <= format_time(START + 19 * DAY), "within five days of seven"


def test_each_window_is_judged_once_whenever_the_clock_is_looked_at(ctx: Context) -> None:
    traffic = Traffic(ctx)
    assert watched(ctx, START + 40 * DAY) == [], "nothing was ever served"
    for _ in range(10):
        traffic.serve(Day(300, scale=3))
    traffic.flush()
    at_once = watched(ctx, START + 10 * DAY)
    assert sorted({a.at for a in at_once}) == [format_time(START + d * DAY) for d in range(7, 11)], "seven whole days"
    assert watched(ctx, START + 10 * DAY) == [] == watched(ctx, START + 11 * DAY - 1)
    assert {a.id for a in alarms(ctx)} == {a.id for a in at_once}
    with ctx.catalog.reading() as connection:
        audited = connection.execute(select(OUTBOX.c.subject).where(OUTBOX.c.kind == "alarm.drift")).scalars().all()
    assert sorted(audited) == sorted(a.id for a in at_once)
    assert alarms(ctx, "other") == [] and len(alarms(ctx, "scoring", limit=2)) == 2


def test_equal_counters_give_equal_alarms_however_much_of_them_is_flushed(ctx: Context, tmp_path: Path) -> None:
    other = opened(tmp_path / "other")
    register(other, 1, {"test.log_loss": 0.5})
    first, second = Traffic(ctx), Traffic(other)
    for day in range(8):
        for traffic in (first, second):
            traffic.serve(Day(200, scale=2))
        if day < 6:
            first.flush()
    assert watched(ctx, START + 8 * DAY) == watched(other, START + 8 * DAY) != []


def test_broken_data_is_told_and_is_no_drift(ctx: Context) -> None:
    traffic = Traffic(ctx)
    traffic.serve(Day(400, null=0.4, scale=4))
    assert {(a.kind, a.statistic) for a in watched(ctx, START + DAY)} == {("broken_data", "null_share")}
    traffic.serve(Day(4000, failing=0.5))
    assert ("broken_data", "errors") in {(a.kind, a.feature) for a in watched(ctx, START + 2 * DAY)}


def test_a_quiet_gap_is_skipped(ctx: Context) -> None:
    traffic = Traffic(ctx)
    traffic.serve(Day(300))
    assert watched(ctx, START + DAY) == []
    assert watched(ctx, START + 3000 * DAY) == []
    assert watched(ctx, START + 3000 * DAY) == []


def test_decay_is_found_when_the_labels_are_there(ctx: Context) -> None:
    traffic = Traffic(ctx)
    kinds: list[tuple[str, str]] = []
    for day in range(24):
        traffic.serve(Day(150, bias=0.0 if day < 8 else 0.9))
        traffic.report(START + (day + 1) * DAY)
        kinds += [(a.kind, a.at) for a in watched(ctx, START + (day + 1) * DAY)]
    decays = [at for kind, at in kinds if kind == "decay"]
    assert {kind for kind, _ in kinds} == {"decay"}
    assert format_time(START + 16 * DAY) <= min(decays) <= format_time(START + 18 * DAY)


def test_cohorts_show_the_coverage_of_labels(ctx: Context) -> None:
    traffic = Traffic(ctx)
    for _ in range(10):
        traffic.serve(Day(200))
    traffic.report(START + 10 * DAY)
    shown = show_cohorts(ctx, service="scoring")
    assert [c.predictions for c in shown] == [200] * 10
    assert [c.coverage for c in shown[:3]] == [1.0] * 3 and [c.coverage for c in shown[4:]] == [0.0] * 6
    assert shown[0].log_loss == pytest.approx(0.5, abs=0.1) and shown[0].positives > 50
    assert shown[-1].log_loss is None


def test_drift_can_be_shown_at_any_time(ctx: Context) -> None:
    traffic = Traffic(ctx)
    traffic.serve(Day(600, scale=2))
    traffic.flush()
    ctx.clock.set(START + 13 * HOUR)
    shown = show_drift(ctx, service="scoring", window="1d")
    assert shown is not None and shown.rows == 600 and shown.version == 1
    assert {f.feature: f.psi > 0.2 for f in shown.figures} == {"amount": True, "half": True, "score": False}
    assert show_drift(ctx, service="scoring", end="2025-01-01") is None
