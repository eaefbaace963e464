"""Labels and training sets: horizons with both edges, maturity, the real engines."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import SPECS, frames, histories

from headrace.features.asking import asking_points
from headrace.features.labels import label_rows
from headrace.features.types import EventSpine, NoEventLabel, ReportLabel, SnapshotSpine
from headrace.kernel.times import to_micros

REPORTED = ReportLabel("report", "id", 7)
QUIET = NoEventLabel("pay", "a", 7)


def payment(number, at, a=0):
    return {"id": number, "at": at, "a": a, "b": "u", "x": 1.0, "y": 3, "flag": True, "word": None, "_offset": number}


def report(number, at):
    return {"id": number, "at": at, "_offset": number}


@pytest.mark.parametrize(("at", "value"), [(9, 0), (10, 1), (17, 1), (18, 0)])
def test_a_report_counts_from_the_asking_time_to_the_end_of_the_horizon(at, value):
    tables = frames([payment(0, 10)], [report(0, at), report(1, 12)])
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    assert label_rows(REPORTED, asking, tables, SPECS, known_at=99)[0].tolist() == [value]


@pytest.mark.parametrize(("at", "value"), [(10, 1), (11, 0), (17, 0), (18, 1)])
def test_no_event_of_the_key_after_the_asking_time_and_within_the_horizon(at, value):
    tables = frames([payment(0, 10), payment(1, at), payment(2, 13, a=1)], [])
    asking = asking_points(EventSpine("pay"), tables, SPECS)[:1]
    assert label_rows(QUIET, asking, tables, SPECS, known_at=99)[0].tolist() == [value]


@pytest.mark.parametrize("label", [REPORTED, QUIET])
def test_a_row_is_trainable_when_its_horizon_is_over_positives_too(label):
    tables = frames([payment(0, 10), payment(1, 11, a=1)], [report(0, 10), report(1, 11)])
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    assert label_rows(label, asking, tables, SPECS, known_at=17)[1].tolist() == [True, False]
    assert label_rows(label, asking, tables, SPECS, known_at=16)[1].tolist() == [False, False]


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 60))
def test_labels_equal_a_plain_loop(history, known_at):
    payments, reports = history
    tables = frames(payments, reports)
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    value, trainable = label_rows(REPORTED, asking, tables, SPECS, known_at=known_at)
    assert value.tolist() == [
        int(any(r["id"] == p["id"] and p["at"] <= r["at"] <= p["at"] + 7 for r in reports)) for p in payments
    ]
    assert trainable.tolist() == [p["at"] + 7 <= known_at for p in payments]
    value, _ = label_rows(QUIET, asking, tables, SPECS, known_at=known_at)
    assert value.tolist() == [
        int(not any(o["a"] == p["a"] and p["at"] < o["at"] <= p["at"] + 7 for o in payments)) for p in payments
    ]


def test_asking_points_begin_at_start_and_stop_before_end():
    tables = frames([payment(n, 10 * n) for n in range(5)], [])
    asking = asking_points(EventSpine("pay"), tables, SPECS, start=10, end=30)
    assert asking["_own"].to_list() == [1, 2]
    snapshots = asking_points(SnapshotSpine("pay", "a", 7), tables, SPECS, start=14, end=28)
    assert [to_micros(t) for t in snapshots["_at"]] == [14, 21]


def test_snapshots_have_the_known_keys_only():
    tables = frames([payment(0, 3), payment(1, 7, a=1), payment(2, 5, a=2)], [])
    asking = asking_points(SnapshotSpine("pay", "a", 7), tables, SPECS)
    assert asking.select(pl.col("at").dt.epoch("us"), "a").rows() == [(7, 0), (7, 1), (7, 2)]
    assert len(asking_points(SnapshotSpine("pay", "a", 4), tables, SPECS, end=8)) == 1
    behind = frames([payment(0, 700), payment(1, 3, a=1)], [])
    live_first = asking_points(SnapshotSpine("pay", "a", 7), behind, SPECS, end=8)
    assert live_first["a"].to_list() == [1], "a history imported behind a live event was known before it"
