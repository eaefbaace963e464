"""Windows with a resolution: where they begin, and when they are demanded. (Their values: the oracle's tests.)"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scenario import PAY, REPORT, frames
from test_online_windows import context, payment

from headrace.data.applying import AppliedBatch
from headrace.engines.online.memory import MemoryOnline
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.kernel import check_additions
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.timeline import Asked, Events, Timeline
from headrace.features.types import Aggregate, Ask, EventSpine, FeatureSet, WindowView
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.specs import Specs

COUNTS = (("count", Aggregate("count")), ("sum", Aggregate("sum", "x")))


def test_windows_begin_at_multiples_of_the_resolution_and_end_at_the_asking_time():
    """A window of 10 at resolution 4: asked at 22 it begins after 12, asked at 23 too (23 - 10 = 13), at 26 after 16."""
    view = WindowView("v", "pay", (), (("w", 10),), COUNTS, resolution=4)
    times = (12, 13, 16, 17, 22, 23, 26)
    tables = frames([payment(n, t, x=float(2**n)) for n, t in enumerate(times)], [])
    specs = Specs((PAY, REPORT, view))
    table = backfill(FeatureSet((view,)), asking_points(EventSpine("pay"), tables, specs), tables, specs, spine="pay")
    assert table["v_sum_w"].to_list() == [0, 1, 3, 7, 2 + 4 + 8, 2 + 4 + 8 + 16, 8 + 16 + 32]
    assert view.span == 14


def test_a_resolution_is_demanded_beyond_1e11_additions():
    """500,000 events of one key, all of them in the window: 500,000**2 / 2 additions."""
    count = 500_000
    first = pl.datetime(2024, 1, 1, time_unit="us", time_zone="UTC")
    frame = pl.DataFrame({"id": np.arange(count), "x": np.ones(count), "_offset": np.arange(count)}).with_columns(
        at=first + pl.col("id") * timedelta(seconds=1), _created=pl.lit(0)
    )
    asked, hour = {}, 3_600_000_000
    for resolution in (0, hour):
        view = WindowView("all", "pay", (), (("9d", 9 * 24 * hour),), COUNTS, resolution=resolution, where="shop.py:7")
        specs = Specs((PAY, REPORT, view))
        asked[resolution] = (FeatureSet((view,)), frame.with_columns(_at="at", _own="_offset"), {"pay": frame}, specs)
    with pytest.raises(InvalidSystem, match=r"shop\.py:7: the windows of view `all` would take about 1e\+11 additions"):
        backfill(*asked[0], spine="pay")
    table = backfill(*asked[hour], spine="pay")
    assert table["all_sum_9d"].to_list() == list(range(count))


def test_a_sample_of_the_events_gives_the_estimate_of_all():
    """Each tenth of 500,000 events of one key: 50,000**2 / 2 additions, times 10**2."""
    count, hour = 50_000, 3_600_000_000
    view = WindowView("all", "pay", (), (("9d", 9 * 24 * hour),), COUNTS, where="shop.py:7")
    key, time, own = np.zeros(count, np.int64), np.arange(count) * 10_000_000, np.full(count, -1)
    timeline = Timeline(Events(key, time, np.arange(count), {}))
    asked = Asked(key, time, own, own, own, own)
    check_additions(view, timeline, asked, one_in=8)
    with pytest.raises(InvalidSystem, match=r"about 1e\+11 additions for 500000 asking points"):
        check_additions(view, timeline, asked, one_in=10)


def test_one_request_is_added_tile_by_tile_too():
    """Views of sums of one request take a way of their own; stored or added, with gaps of many tiles and with none."""
    random = np.random.default_rng(3)
    kinds = tuple((kind, Aggregate(kind, "x")) for kind in ("sum", "mean", "min", "max"))
    over = (("short", 9), ("long", 200), ("none", 1))
    own = WindowView("own", "pay", ("a",), over, COUNTS[:1] + kinds, own_event=True, resolution=4)
    late = WindowView("late", "pay", ("a",), over, kinds, delay=7, resolution=5)
    specs, features = Specs((PAY, REPORT, own, late)), FeatureSet((own, late))
    times = np.sort(np.concatenate([random.integers(0, 60, 150), random.integers(150, 1_000, 30)]))
    tables = frames([payment(n, int(t), x=float(random.normal()), a=n % 2) for n, t in enumerate(times)], [])
    ctx = context(MemoryOnline(), specs)
    views = OnlineViews(ctx, features.views)
    reader = FeatureReader(ctx.online, ctx.namespace, features, specs, asking="pay")
    reads, values = [], []
    for number, t in enumerate(times.tolist()):
        ask = Ask(payment(number, t, x=0.1 * number, a=number % 2), t, number if number % 3 else 1_000 + number)
        row = reader.read(*ask)
        assert [one.values.tobytes() for one in reader.read_many([ask, ask])] == [row.values.tobytes()] * 2
        reads.append(LoggedRead(*ask, row.positions))
        values.append(row.values)
        views.sink(AppliedBatch("pay", tables["pay"][number : number + 1], number + 1))
    again = recompute(features, reads, tables, specs, asking="pay")
    assert np.array_equal(again, np.array(values), equal_nan=True)
    assert np.isnan(again).any()
    assert (~np.isnan(again)).all(axis=1).any()
