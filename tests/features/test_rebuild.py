"""With the real engines: the online state is rebuilt from the history; training sets come from what was applied."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scenario import FEATURES, SPECS, STORED, VIEWS

from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import log_history
from headrace.data.lake_sink import LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.open import open_context
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.training_set import training_set
from headrace.features.types import EventSpine, Label
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.times import format_time

NOW = 200


def opened(folder):
    return open_context(Settings(data=folder), "shop", SPECS, clock=FixedEventClock(NOW))


def payment(number, at):
    return {"id": number, "at": at, "a": number % 3, "b": "uv"[number % 2], "x": 0.1 * number, "y": number % 7, "flag": True,
            "word": None}  # fmt: skip


def append(ctx, stream, rows):
    append_raw(ctx, stream, [msgspec.json.encode(row | {"at": format_time(row["at"])}) for row in rows], history=True)


def apply(ctx, views, streams=("pay", "report")):
    for stream in streams:
        spec = ctx.specs.get(StreamSpec, stream)
        lake = LakeSink(ctx, spec)
        applier = StreamApplier(ctx, spec, [views.sink, lake])
        while applier.step(max_records=16):
            pass
        lake.flush()


def read(ctx, at=95, number=999):
    request = payment(number, at)
    row = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="pay").read(request, at, number)
    return LoggedRead(request, at, number, row.positions), row.values


@pytest.fixture
def shop(tmp_path):
    ctx = opened(tmp_path / "data")
    append(ctx, "report", [{"id": 93, "at": 94}])
    append(ctx, "pay", [payment(n, n) for n in range(96)])
    append(ctx, "report", [{"id": n, "at": n + 3} for n in range(0, 90, 2)])
    yield ctx
    ctx.close()


def test_a_lost_online_store_is_rebuilt(shop):
    ctx = shop
    views = OnlineViews(ctx, STORED)
    apply(ctx, views)
    (logged, before), positions = read(ctx), views.positions(VIEWS[1])
    assert positions == {"pay": 95, "report": 45}
    ctx.online.write({key: None for key, _ in ctx.online.scan(b"shop/view/")})
    assert not np.array_equal(read(ctx)[1], before, equal_nan=True)
    again = OnlineViews(ctx, STORED)
    again.rebuild()
    assert again.positions(VIEWS[1]) == positions
    assert np.array_equal(read(ctx)[1], before, equal_nan=True)
    frames = {stream: log_history(ctx, stream) for stream in ("pay", "report")}
    assert np.array_equal(recompute(FEATURES, [logged], frames, SPECS, asking="pay")[0], before, equal_nan=True)
    held = sum(1 for _ in ctx.online.scan(b"shop/view/"))
    again.rebuild()
    assert sum(1 for _ in ctx.online.scan(b"shop/view/")) == held


def test_a_new_view_catches_up_and_goes_on(shop):
    ctx = shop
    apply(ctx, OnlineViews(ctx, VIEWS[:1]))
    views = OnlineViews(ctx, STORED)
    views.rebuild()
    append(ctx, "pay", [payment(n, n) for n in range(96, 100)])
    append(ctx, "report", [{"id": 95, "at": 98}])
    apply(ctx, views)
    logged, values = read(ctx, at=99)
    frames = {stream: log_history(ctx, stream) for stream in ("pay", "report")}
    assert logged.positions["delayed"] == {"pay": 99, "report": 46}
    assert np.array_equal(recompute(FEATURES, [logged], frames, SPECS, asking="pay")[0], values, equal_nan=True)


class Model:
    features = FEATURES
    label = Label("label", "report", ("id",), 5)
    spine = EventSpine("pay")


def test_a_training_set_holds_the_trainable_rows_of_what_was_applied(shop):
    ctx = shop
    apply(ctx, OnlineViews(ctx, ()))
    table = training_set(ctx, Model(), start=10, end=90, known_at=60)
    assert table["_own"].to_list() == list(range(10, 56))
    assert table.columns == ["a", "at", "_own", *FEATURES.columns, "label"]
    assert table["label"].to_list() == [1 - n % 2 for n in range(10, 56)]
    frames = {stream: log_history(ctx, stream) for stream in ("pay", "report")}
    positions = {view.name: {"pay": 30, "report": 99} for view in STORED}
    again = recompute(FEATURES, [LoggedRead(payment(30, 30), 30, 30, positions)], frames, SPECS, asking="pay")
    row = table.filter(table["_own"] == 30).select(FEATURES.columns).cast(float).fill_null(float("nan"))
    assert np.array_equal(row.to_numpy(), again, equal_nan=True)
