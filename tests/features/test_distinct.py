"""Counting different values: exact up to a bound, then estimated, the same in every execution."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from scenario import JOIN, PAY, REPORT, bits, frames
from test_online_windows import context
from test_spilled_backfill import both, same

from headrace.data.applying import AppliedBatch
from headrace.engines.online.memory import MemoryOnline
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.hyperloglog import DISTINCT_BOUND, estimate, registers
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import Aggregate, EventSpine, FeatureSet, WindowView
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

COLUMNS = ("x", "y", "word", "at")
DISTINCT = WindowView(
    "many", "pay", (), (("w", 10_000), ("v", 5_000)), tuple((c, Aggregate("distinct", c)) for c in COLUMNS), own_event=True
)


def test_estimates_of_known_sets():
    """Within 4 standard errors of 0.81 %, from the bound up to a million, of consecutive and of random words."""
    random = np.random.default_rng(5)
    for size in (DISTINCT_BOUND + 1, 50_000, 1_000_000):
        for words in (np.arange(size), random.integers(-(2**62), 2**62, size)):
            assert abs(estimate(registers(words)) / size - 1) < 4 * 0.0081
            assert estimate(registers(np.concatenate([words[::-1], words[:99]]))) == estimate(registers(words))
    assert estimate(registers(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize("more", [0, 1, 1_500])
def test_all_executions_equal_the_oracle_at_and_beyond_the_bound(more):
    """Values come twice, in another order, some of them null; -0.0 and 0.0 are one value."""
    count = DISTINCT_BOUND + more
    random = np.random.default_rng(more)
    values = [float(v) for v in random.permutation(count)]
    rows = [
        {"id": n, "at": n, "a": 0, "b": "u", "x": values[n] if values[n] or n % 2 else -0.0, "y": n * 7 - 900, "flag": True,
         "word": f"w{values[n]}é", "_offset": n}
        for n in range(count)
    ]  # fmt: skip
    rows += [rows[n] | {"id": count + n, "at": count + n, "_offset": count + n, "x": None} for n in range(0, 90, 3)]
    tables = frames(rows, [])
    asked = rows[-1]
    wanted = [
        oracle.value("distinct", c, [r for r in rows if r["at"] > asked["at"] - w]) for w in (10_000, 5_000) for c in COLUMNS
    ]
    specs, features = Specs((PAY, REPORT, DISTINCT)), FeatureSet((DISTINCT,))
    filled = backfill(features, asking_points(EventSpine("pay"), tables, specs)[-1:], tables, specs, spine="pay")
    assert list(filled.select(DISTINCT.columns).row(0)) == wanted
    assert filled["many_x_w"].item() == count if not more else filled["many_x_w"].item() != count

    live_and_recomputed(rows, [], specs, features, asked, wanted)


def live_and_recomputed(rows, reports, specs, features, asked, wanted):
    """The features of the request `asked`, online and recomputed, are the wanted ones."""
    online, tables = MemoryOnline(), frames(rows, reports)
    views = OnlineViews(context(online, specs), features.views)
    if reports:
        views.sink(AppliedBatch("report", tables["report"], int(tables["report"]["_offset"][-1]) + 1))
    for first in range(0, len(rows), 1_000):
        part = tables["pay"][first : first + 1_000]
        views.sink(AppliedBatch("pay", part, int(part["_offset"][-1]) + 1))
    read = FeatureReader(online, Namespace("shop"), features, specs, asking="pay").read(asked, asked["at"], asked["id"])
    assert read.values.tolist() == [float(v) for v in wanted]
    again = recompute(features, [LoggedRead(asked, asked["at"], asked["id"], read.positions)], tables, specs, asking="pay")
    assert [bits(v) for v in again[0].tolist()] == [bits(v) for v in read.values.tolist()]


OVER = (("w", 10_000), ("v", 4_300))
COUNTED = tuple((c, Aggregate("distinct", c)) for c in ("x", "word"))
OTHERS = (
    WindowView("tiled", "pay", (), OVER, COUNTED, own_event=True, resolution=64),
    WindowView("kept", "pay", ("a",), OVER, COUNTED, predicate=lambda y: y % 10 != 0),
    WindowView("joined", "pay", ("a",), OVER, (*COUNTED, ("share", Aggregate("share", report="report"))), join=JOIN, delay=3),
)
KEPT = {"kept": lambda row: row["y"] % 10 != 0}


@pytest.mark.slow
def test_other_views_beyond_the_bound_equal_the_oracle_through_files_too(tmp_path):
    """With a resolution, a `where` and a join; in memory, through files, online and recomputed."""
    count = DISTINCT_BOUND + 1_000
    values = [float(v) for v in np.random.default_rng(4).permutation(count)]
    rows = [
        {"id": n, "at": n, "a": 0, "b": "u", "x": x, "y": n, "flag": True, "word": f"w{x // 1.1}é", "_offset": n}
        for n, x in enumerate(values)
    ]  # fmt: skip
    reports = [{"id": n, "at": n, "_offset": n // 2} for n in range(0, count, 2)]
    specs, features = Specs((PAY, REPORT, JOIN, *OTHERS)), FeatureSet(OTHERS)

    def wanted(row):
        found = []
        for view in OTHERS:
            for _, width in view.over:
                window = oracle.windowed(
                    rows, row["at"], row["_offset"], width, key=tuple(row[name] for name in view.by), by=view.by,
                    delay=view.delay, own=row["_offset"], own_row=row, own_event=view.own_event, where=KEPT.get(view.name),
                    resolution=view.resolution,
                )  # fmt: skip
                found += [
                    oracle.value(a.kind, a.column, window, reports=reports, at=row["at"], resolution=view.resolution)
                    for _, a in view.aggregates
                ]
        return found

    paths = {}
    for name, table in frames(rows, reports).items():
        paths[name] = tmp_path / f"{name}.parquet"
        table.drop("_offset", "_created").write_parquet(paths[name])
    whole, parts = both(specs, paths, tmp_path, spine="pay", features=[view.name for view in OTHERS], memory="8MB")
    same(whole, parts)
    edge = [DISTINCT_BOUND - 1, DISTINCT_BOUND, DISTINCT_BOUND + 1, count - 1]
    assert [list(row) for row in whole.select(features.columns)[edge].rows()] == [wanted(rows[n]) for n in edge]
    assert (whole["tiled_x_w"][edge[0]], whole["tiled_x_w"][edge[2]] != edge[2] + 1) == (DISTINCT_BOUND, True)
    assert whole["kept_x_w"].max() > DISTINCT_BOUND and whole["joined_x_w"].max() > DISTINCT_BOUND
    live_and_recomputed(rows, reports, specs, features, rows[-1], wanted(rows[-1]))
