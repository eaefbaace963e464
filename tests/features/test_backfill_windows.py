"""The kernel and the backfill against the oracle, equal to the bit."""

from __future__ import annotations

import numpy as np
import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import FEATURES, PAY, SPECS, STORED, VIEWS, bits, expected, frame, frames, histories

from headrace.features import kernel, reducers
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.frames import AskingPoints, view_series, view_values
from headrace.features.types import EventSpine, FeatureSet, SnapshotSpine, WindowView

MANY = settings(max_examples=40, deadline=None)


def test_reduceat_depends_only_on_the_content_of_the_slice():
    random = np.random.default_rng(1)
    values = random.normal(size=30_000) * 10.0 ** random.integers(-9, 9, size=30_000)
    starts = np.sort(random.integers(0, 29_000, 2_000))
    ends = starts + np.where(random.random(2_000) < 0.05, random.integers(1, 20_000, 2_000), random.integers(1, 300, 2_000))
    ends = np.minimum(ends, 30_000)
    together = reducers.sums(np.append(values, 0.0), starts, ends)
    for start, end, total in zip(starts, ends, together, strict=True):
        shift = int(start) % 5
        alone = np.concatenate([np.full(shift, 7.7), values[start:end], [0.0]])
        assert reducers.sums(alone, np.array([shift]), np.array([shift + end - start]))[0] == total
    for row in range(0, 2_000, 40):
        assert oracle.add(values[starts[row] : ends[row]].tolist()) == together[row]


def test_standard_deviations_of_few_slices_equal_those_of_many():
    random = np.random.default_rng(2)
    values = random.normal(size=5_000)
    starts = np.sort(random.integers(0, 4_900, 300))
    ends = starts + random.integers(0, 100, 300)
    padded = np.append(values, 0.0)
    whole = reducers.standard_deviations(padded, starts, ends)
    parts = np.concatenate([reducers.standard_deviations(padded, starts[i : i + 7], ends[i : i + 7]) for i in range(0, 300, 7)])
    assert np.array_equal(whole[ends - starts > 1], parts[ends - starts > 1])


def rows_of(view, points, tables):
    table = pl.DataFrame(view_series(view, view_values(view, points, tables, SPECS), SPECS))
    table = table.with_columns(pl.selectors.datetime().to_physical())
    return [[bits(v) for v in row] for row in table.rows()]


@MANY
@given(histories())
def test_backfill_over_events_equals_the_oracle(history):
    payments, reports = history
    tables = frames(payments, reports)
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    table = backfill(FeatureSet(STORED), asking, tables, SPECS, spine="pay")
    assert table["id"].to_list() == [p["id"] for p in payments]
    for row, request in zip(
        table.with_columns(pl.selectors.datetime().to_physical()).iter_rows(named=True), payments, strict=True
    ):
        for view in STORED:
            wanted = expected(view, payments, reports, request, request["at"], request["_offset"], request["_offset"])
            assert [bits(row[name]) for name in view.columns] == [bits(v) for v in wanted], (view.name, request)


@MANY
@given(histories(), st.data())
def test_any_asking_time_and_position_equal_the_oracle(history, data):
    """As requests are: the asking event may be in the log or not, events and reports may have arrived up to anywhere."""
    payments, reports = history
    tables = frames(payments, reports)
    asked = []
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(-1, 80))
        reported = data.draw(st.integers(-1, 80))
        if payments and data.draw(st.booleans()):
            request = data.draw(st.sampled_from(payments))
        else:
            request = {"id": 999, "at": data.draw(st.integers(0, 50)), "a": data.draw(st.integers(0, 5)), "x": 0.7,
                       "flag": True, "b": data.draw(st.sampled_from(("u", "new", None))), "y": 9,
                       "word": None, "_offset": -1}  # fmt: skip
        own = request["_offset"] if 0 <= request["_offset"] <= position else -1
        asked.append((request, request["at"], position, own, reported))
    requests, at, position, own, reported = zip(*asked, strict=True)
    table = frame(list(requests), PAY)
    points = AskingPoints(table, *(np.array(v, np.int64) for v in (at, position, own, reported)), np.ones(len(at), bool))
    for view in STORED:
        found = rows_of(view, points, tables)
        for row, (request, t, p, o, q) in zip(found, asked, strict=True):
            wanted = expected(view, payments, reports, request, t, p, None if o < 0 else o, q)
            assert row == [bits(v) for v in wanted], (view.name, request, t, p, o, q)


@MANY
@given(histories(), st.sampled_from((1, 4, 9)))
def test_snapshots_equal_the_oracle(history, period):
    """Keys known by then, asked at what was known by then, in whatever order it arrived; the points are no events."""
    payments, reports = history
    payments = [p | {"a": p["a"]} for p in payments]
    tables = frames(payments, reports)
    views = tuple(v for v in STORED if v.by in (("a",), ()))
    asking = asking_points(SnapshotSpine("pay", ("a",), period), tables, SPECS, start=0, end=45)
    filled = backfill(FeatureSet(views), asking, tables, SPECS, spine=None)
    table = filled.with_columns(pl.selectors.datetime().to_physical())
    seen = []
    for at in range(0, 45, period):
        known = [p for p in payments if p["at"] <= at]
        for key in sorted({p["a"] for p in known}):
            seen.append((at, key))
            row = table.row(len(seen) - 1, named=True)
            for view in views:
                wanted = expected(view, known, reports, {"a": key}, at, len(payments) * 100, None, is_event=False)
                assert [bits(row[name]) for name in view.columns] == [bits(v) for v in wanted]
    assert table.select(pl.col("_at").to_physical(), "a").rows() == seen


def test_a_part_of_the_asking_points_gives_the_same_bits():
    random = np.random.default_rng(3)
    payments = [
        {"id": i, "at": int(max(i - random.integers(0, 30), 0)), "a": int(random.integers(0, 3)), "b": "u", 
          "x": float(random.normal()),         "y": int(random.integers(0, 9)), "flag": True, "word": None, "_offset": i}
        for i in range(600)
    ]  # fmt: skip
    reports = [{"id": i, "at": i + 3, "_offset": i} for i in range(0, 600, 3)]
    tables = frames(payments, reports)
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    whole = backfill(FEATURES, asking, tables, SPECS, spine="pay")
    own = asking["_own"].to_numpy()
    for size in (1, 5, 70):
        for rows in (slice(0, size), slice(300, 300 + size)):
            part = asking[rows]
            assert backfill(FEATURES, part, tables, SPECS, spine="pay").equals(whole[rows], null_equal=True)
    assert len(own) < kernel.BLOCK


def test_a_block_boundary_inside_a_key_changes_nothing():
    """More asking points than a block: evaluated together and in two halves."""
    n = kernel.BLOCK + 1_000
    random = np.random.default_rng(4)
    at = np.sort(random.integers(0, 3 * n, n))
    table = pl.DataFrame({
        "id": np.arange(n), "at": pl.Series(at).cast(pl.Datetime("us", "UTC")), "a": random.integers(0, 2, n), "b": ["u"] * n,
        "x": random.normal(size=n), "y": random.integers(0, 9, n), "flag": [True] * n, "word": ["k"] * n,
        "_offset": np.arange(n), "_created": at,
    })  # fmt: skip
    tables = {"pay": table, "report": frames([], [])["report"]}
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    whole = backfill(FeatureSet((VIEWS[0], VIEWS[1], VIEWS[5])), asking, tables, SPECS, spine="pay")
    halves = [
        backfill(FeatureSet((VIEWS[0], VIEWS[1], VIEWS[5])), asking[rows], tables, SPECS, spine="pay")
        for rows in (slice(0, n // 2), slice(n // 2, n))
    ]
    assert pl.concat(halves).equals(whole, null_equal=True)


@pytest.mark.parametrize("scale", [1, 10**15])
def test_times_and_keys_too_wide_for_one_integer(scale):
    """(key, time) no longer fits 64 bits: times become ranks, the values stay."""
    tables = frames(
        [{"id": i, "at": i * scale, "a": (i % 3) * 10**12, "b": "u", "x": float(i), "y": i, "flag": True,
          "word": None, "_offset": i} for i in range(9)], []
    )  # fmt: skip
    view = WindowView("wide", "pay", ("a",), (("w", 4 * scale),), VIEWS[0].aggregates, own_event=True)
    asking = asking_points(EventSpine("pay"), tables, SPECS)
    table = backfill(FeatureSet((view,)), asking, tables, SPECS, spine="pay")
    assert table["wide_count_w"].to_list() == [1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert table["wide_sum_x_w"].to_list() == [0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0]
