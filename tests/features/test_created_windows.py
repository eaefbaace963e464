"""Windows over events that became known earlier or later than their time says: what is asked at a time is what was known."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scenario import JOIN, LATEST, PAY, REPORT, VIEWS, bits, expected, frame, histories
from test_online_windows import context
from test_spilled_backfill import TINY

from headrace.data.applying import AppliedBatch
from headrace.data.types import Field, StreamSpec
from headrace.engines.online.memory import MemoryOnline
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.backfill_files import backfill_files
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.types import FeatureSet, SnapshotSpine
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

SEEN = replace(PAY, fields=(*PAY.fields, Field("seen", "datetime")), created="seen")
ASK = StreamSpec("ask", (Field("id", "int"), Field("at", "datetime"), Field("a", "int")), "id", "a", "at")
STORED = (*(view for view in VIEWS if view.by in (("a",), ())), LATEST)
FEATURES = FeatureSet(STORED)
SPECS = Specs((SEEN, ASK, REPORT, JOIN, *STORED))
EVER = 10**9


@st.composite
def seen_histories(draw):
    """(payments, reports): payments with `seen`, the time at which each was created, in order of arrival."""
    payments, reports = draw(histories())
    for row in payments:
        row["seen"] = row["_created"] = max(row["at"] + draw(st.sampled_from((0, 0, -3, 2, 9))), 0)
    return payments, reports


def table_of(payments):
    seen = pl.Series("seen", [row["seen"] for row in payments], pl.Int64)
    return frame(payments, PAY).with_columns(seen.cast(pl.Datetime("us", "UTC")), seen.alias("_created"))


def known(payments, at):
    """The payments that were known at `at`, numbered in the order in which they became known."""
    ordered = sorted(payments, key=lambda row: (row["seen"], row["_offset"]))
    return [row | {"_offset": number} for number, row in enumerate(ordered) if row["seen"] <= at]


def wanted(payments, reports, key, at):
    """Every feature of the key asked at `at`, by the oracle; the asking point is no payment."""
    then = known(payments, at)
    found = [expected(view, then, reports, {"a": key}, at, EVER, None, is_event=False) for view in STORED]
    return [bits(value) for values in found for value in values]


def plain(table):
    rows = table.select(FEATURES.given).with_columns(pl.selectors.datetime().to_physical()).rows()
    return [[bits(value) for value in row] for row in rows]


@settings(max_examples=8, deadline=None)
@given(seen_histories(), st.sampled_from((1, 5)))
def test_snapshots_hold_what_was_created_by_then(history, period):
    payments, reports = history
    tables = {"pay": table_of(payments), "report": frame(reports, REPORT)}
    asking = asking_points(SnapshotSpine("pay", ("a",), period), tables, SPECS, start=0, end=40)
    points = [
        (key, at) for at in range(0, 40, period)
        for key in sorted({row["a"] for row in payments if max(row["at"], row["seen"]) <= at})
    ]  # fmt: skip
    assert asking.select("a", pl.col("_at").to_physical()).rows() == points
    found = plain(backfill(FEATURES, asking, tables, SPECS, spine=None))
    assert found == [wanted(payments, reports, key, at) for key, at in points]


@settings(max_examples=5, deadline=None)
@given(seen_histories())
def test_online_reads_hold_what_was_created_by_then(history):
    """Events arrive when they are created; each is asked for when all that was created by then is applied."""
    payments, reports = history
    online = MemoryOnline()
    views = OnlineViews(context(online, SPECS), STORED)
    reader = FeatureReader(online, Namespace("shop"), FEATURES, SPECS, asking="ask")
    if reports:
        views.sink(AppliedBatch("report", frame(reports, REPORT), reports[-1]["_offset"] + 1))
    done, arrivals = 0, known(payments, EVER)
    for at in range(0, 60, 4):
        new = [row for row in arrivals[done:] if row["seen"] <= at]
        done += len(new)
        if new:
            views.sink(AppliedBatch("pay", table_of(new), done))
        for key in (0, 1):
            values = zip(FEATURES.given, wanted(payments, reports, key, at), strict=True)
            found = reader.read({"id": EVER, "at": at, "a": key}, at, None).values.tolist()
            assert [bits(v) for v in found] == [v for name, v in values if name in FEATURES.columns]


@pytest.mark.slow
@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(seen_histories(), st.lists(st.tuples(st.integers(0, 45), st.integers(0, 3)), min_size=1, max_size=15))
def test_a_backfill_through_files_holds_what_was_created_by_then(history, asked):
    payments, reports = history
    reports = [row | {"id": number} for number, row in enumerate(reports)]
    asks = [{"id": n, "at": at, "a": a, "_offset": n} for n, (at, a) in enumerate(asked)]
    tables = {"pay": table_of(payments), "report": frame(reports, REPORT), "ask": frame(asks, ASK)}
    with tempfile.TemporaryDirectory() as name:
        paths = {stream: Path(name) / f"{stream}.parquet" for stream in tables}
        for stream, table in tables.items():
            table.drop("_offset", "_created").write_parquet(paths[stream])
        for memory in ("64GB", TINY):
            out = Path(name) / "out.parquet"
            backfill_files(SPECS, paths, spine="ask", features=[view.name for view in STORED], memory=memory, out=out)
            assert plain(pl.read_parquet(out)) == [wanted(payments, reports, a, at) for at, a in asked]
