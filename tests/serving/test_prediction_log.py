"""The log keeps every answer, and knows the newest ones again after a restart."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_world import FEATURES, SPECS, service

import headrace as hr
from headrace.engines.events.memory import MemoryLog
from headrace.engines.events.port import EventLog
from headrace.engines.events.segments import SegmentLog
from headrace.kernel.times import DAY
from headrace.serving.counters import LATENCY_EDGES, Counters
from headrace.serving.loading import Counted, Histogram, Reference
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.reading import prediction_records, predictions_frame, read_cells
from headrace.serving.types import Entry, PredictionRecord
from headrace.statistics.histograms import bin_counts

LOG, TOPIC = "shop/predictions/quiet", "shop/counters/quiet"
EDGES = [1.0, 2.0, 5.0]
REFERENCE = Reference({name: Histogram(EDGES, [1, 1, 1, 1, 0]) for name in FEATURES}, Histogram([0.5], [1, 1, 0]))


def record(number: int, **changes: Any) -> PredictionRecord:
    values: dict[str, Any] = {
        "format": 1, "id": f"shop-{number:032x}", "request_key": str(number), "request_hash": "ab", "at": number * 1000,
        "machine_at": 5, "service": service.name, "version": 1, "role": "champion", "entity": "ann", "sticky": True,
        "own_id": None, "request": {"amount": 1.5}, "features": [float(number % 7)] * len(FEATURES), "positions": {},
        "score": 0.25, "error": None, "latency_us": 250, "rollout": None, "generation": 1,
    }  # fmt: skip
    return PredictionRecord(**(values | changes))


def entry(record: PredictionRecord) -> Entry:
    return record, np.array(record.features) if record.features else None


@pytest.fixture(params=["memory", "segments"])
def events(request: pytest.FixtureRequest, tmp_path: Path) -> EventLog:
    return MemoryLog() if request.param == "memory" else SegmentLog(tmp_path / "events")


def test_what_is_appended_is_answered_again_also_after_a_restart(events: EventLog) -> None:
    log = PredictionLog(events, LOG)
    log.append([record(1), record(2, score=0.75)])
    for again in (log, PredictionLog(events, LOG)):
        found = again.answered(record(2).id)
        assert found is not None and found.score == 0.75
        assert again.answered(record(3).id) is None


def test_only_answers_to_keyed_requests_are_remembered(events: EventLog) -> None:
    log = PredictionLog(events, LOG)
    log.append([
        record(1, role="canary", score=None, error="nan"), record(1, score=0.5),
        record(2, score=None, error="down"), record(3, request_key=""), record(1, role="shadow", score=0.9),
    ])  # fmt: skip
    for again in (log, PredictionLog(events, LOG)):
        found = again.answered(record(1).id)
        assert found is not None and found.score == 0.5
        assert again.answered(record(2).id) is None
        assert again.answered(record(3).id) is None


def test_the_memory_is_bounded_and_holds_the_newest(events: EventLog) -> None:
    log = PredictionLog(events, LOG, remembered=10)
    for number in range(35):
        log.append([record(number)])
    assert all(log.answered(record(number).id) for number in range(25, 35))
    assert log.answered(record(5).id) is None
    restarted = PredictionLog(events, LOG, remembered=10)
    assert all(restarted.answered(record(number).id) for number in range(25, 35))
    assert restarted.answered(record(24).id) is None


def counters(events: EventLog) -> Counters:
    return Counters(events, TOPIC, LOG, lambda number: Counted(FEATURES, REFERENCE) if number < 9 else None)


def settle(counters: Counters) -> None:
    pending = counters.take()
    if pending is not None:
        counters.append(pending)


def test_cells_are_the_histograms_of_the_records(events: EventLog, make_context: Any) -> None:
    log, counted = PredictionLog(events, LOG), counters(events)
    records = [
        *(record(n, at=n % 3 * DAY + 5, latency_us=n * 10, score=n / 1000) for n in range(600)),
        record(600, score=None, error="nan", role="canary", version=2),
        record(601, features=[], score=None, error="features", at=0, latency_us=0),
        record(602, version=9, at=0, latency_us=0),
        record(603, features=[float("nan")] * len(FEATURES), at=0, latency_us=0, score=0.0),
    ]
    for start in range(0, len(records), 50):
        part = records[start : start + 50]
        counted.add(log.append(part), [entry(one) for one in part])
    settle(counted)
    ctx = replace(make_context(SPECS), events=events)
    cells, counted_to = read_cells(ctx, service.name, 0, 3)
    assert counted_to == len(records)
    assert set(cells) == {(1, "champion", 0), (1, "champion", 1), (1, "champion", 2), (2, "canary", 0), (9, "champion", 0)}
    day1 = cells[1, "champion", 1]
    numbers = np.arange(1, 600, 3)
    assert day1.count == 200 and day1.errors == 0
    assert np.array_equal(day1.latency, bin_counts(numbers * 10.0, LATENCY_EDGES))
    assert np.array_equal(day1.score, bin_counts(numbers / 1000, np.array([0.5])))
    for name in FEATURES:
        assert np.array_equal(day1.features[name], bin_counts(numbers % 7, np.array(EDGES)))
    day0 = cells[1, "champion", 0]
    assert (day0.count, day0.errors) == (202, 1)
    assert day0.features[FEATURES[0]][-1] == 1
    assert day0.features[FEATURES[0]].sum() == 201
    assert cells[2, "canary", 0].errors == 1 and not cells[2, "canary", 0].score.sum()
    assert cells[9, "champion", 0].features == {} and cells[9, "champion", 0].count == 1
    assert read_cells(ctx, service.name, 1, 2)[0].keys() == {(1, "champion", 1)}


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_counts_are_exact_after_any_crash(steps: list[tuple[int, bool, bool]]) -> None:
    """Each step appends some records, settles or not, and crashes (a new process counts on) or not."""
    events = MemoryLog()
    log, counted, written = PredictionLog(events, LOG), counters(events), 0
    for size, settles, crashes in steps:
        part = [record(written + i) for i in range(size)]
        counted.add(log.append(part), [entry(one) for one in part])
        written += size
        if settles:
            settle(counted)
        if crashes:
            counted = counters(events)
    settle(counted)
    ranges = [msgspec.json.decode(value) for value in events.read(TOPIC, 0, 0).values]
    spans = [(r["from"], r["to"]) for r in ranges]
    assert [first for first, _ in spans] == [0, *(to for _, to in spans[:-1])] and spans[-1][1] == written
    total = sum(cell["count"] for r in ranges for cell in r["cells"])
    assert total == written


def test_records_of_another_writer_are_counted_too() -> None:
    events = MemoryLog()
    log, counted = PredictionLog(events, LOG), counters(events)
    PredictionLog(events, LOG).append([record(1)])
    counted.add(log.append([record(2)]), [entry(record(2))])
    pending = counted.take()
    assert pending is not None
    assert (pending.first, pending.to) == (0, 2)
    assert pending.cells[1, "champion", 0].count == 2


def test_the_export_has_the_pinned_columns(make_context: Any, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    log = PredictionLog(ctx.events, LOG)
    features = [1.0, float("nan"), *[0.0] * (len(FEATURES) - 2)]
    log.append(
        [record(7, features=features, positions={"customer": {"order": 41}}), record(8, features=[], score=None, error="x")]
    )
    frame = predictions_frame(ctx, service.name)
    assert frame.columns == ["prediction_id", "at", "version", "role", "read_position", "entity_key", "score", *FEATURES]
    assert frame.row(0)[:7] == (
        record(7).id, frame["at"][0], 1, "champion", '{"customer":{"order":41}}', "ann", 0.25,
    )  # fmt: skip
    assert frame["at"].dt.timestamp("us").to_list() == [7000, 8000]
    assert frame[FEATURES[1]].to_list() == [None, None] and frame[FEATURES[0]].to_list() == [1.0, None]
    assert frame.schema["at"] == pl.Datetime("us", "UTC")
    assert [offset for offset, _ in prediction_records(ctx, service.name, 1)] == [1]


def test_a_feature_called_as_a_pinned_column_is_exported_beside_it(make_context: Any) -> None:
    bank = hr.System("bank")

    @bank.stream(id="id", key="who", time="when")
    class Loan:
        id: int
        when: datetime
        who: str
        score: float

    @bank.model(features=["score"], label=hr.no_event(Loan, by="who", within="7d"), spine=Loan)
    def risk(rows: np.ndarray, labels: np.ndarray) -> Any:
        raise NotImplementedError("trains nothing")

    bank.service(risk, request=Loan, name="risk")
    ctx = make_context(bank.specs())
    log = PredictionLog(ctx.events, ctx.namespace.predictions("risk"))
    log.append([record(7, service="risk", features=[630.0], request={"score": 630.0})])
    frame = predictions_frame(ctx, "risk")
    assert frame.select("score", "feature_score").rows() == [(0.25, 630.0)]
