"""What is no number, integers that no float holds, and values of one moment: alike online, in training and recomputed."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from scenario import PAY
from test_rebuild import NOW, append, apply, payment

from headrace.data.history import history
from headrace.data.types import Field
from headrace.engines.open import open_context
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, matrix
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import (
    Aggregate,
    Ask,
    AttributeView,
    EventSpine,
    FeatureSet,
    RequestFeatures,
    RequestField,
    WindowView,
    stored_views,
)  # fmt: skip
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import format_time
from headrace.system.feature_catalogue import read
from headrace.system.feature_tables import values_of_rows

LARGE = (1 << 53) + 1
WIDEST = WindowView(
    "widest", "pay", ("a",), (("w", 50),),
    (("most", Aggregate("max", "y")), ("newest", Aggregate("last", "y")), ("total", Aggregate("sum", "x"))), own_event=True,
)  # fmt: skip
TILED = dataclasses.replace(WIDEST, name="tiled", resolution=10)
LATEST = AttributeView("latest", "latest", "pay", ("a",), ("y", "x"))


READ = ("y", "widest_most_w", "widest_newest_w", "tiled_most_w", "latest_y")
DIGITS = tuple(f"digit_{name}" for name in READ)


def digits(y, widest_most_w, widest_newest_w, tiled_most_w, latest_y):
    found = (y, widest_most_w, widest_newest_w, tiled_most_w, latest_y)
    return {name: column % 10 for name, column in zip(DIGITS, found, strict=True)}


def logarithm(x, widest_total_w):
    with np.errstate(all="ignore"):
        return {"log": np.log(x - 0.5), "ratio": widest_total_w / (x - x)}


def doubled(log, a):
    return {"twice": log * 2, "odd": a * 3}


FUNCTIONS = (
    RequestFeatures("digits", digits, READ, DIGITS),
    RequestFeatures("logarithm", logarithm, ("x", "widest_total_w"), ("log", "ratio")),
    RequestFeatures("doubled", doubled, ("log", "a"), ("twice", "odd")),
)  # fmt: skip
FEATURES = FeatureSet((*FUNCTIONS, WIDEST, TILED, LATEST, RequestField("x")))


def world(folder, stream=PAY):
    specs = Specs((stream, WIDEST, TILED, LATEST, *FUNCTIONS))
    return open_context(Settings(data=folder), "shop", specs, clock=FixedEventClock(NOW))


@pytest.mark.parametrize("nulls", [False, True])
def test_large_integers_and_what_is_no_number(tmp_path, nulls):
    fields = [dataclasses.replace(field, nullable=nulls) if field.name == "y" else field for field in PAY.fields]
    ctx = world(tmp_path, dataclasses.replace(PAY, fields=tuple(fields)))
    views = OnlineViews(ctx, stored_views(ctx.specs))
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, ctx.specs, asking="pay")
    reads = []
    for number in range(24):
        asked = payment(number, number) | {"y": LARGE + 2 * number, "x": (0.25, 1.5, None, -1.5)[number % 4]}
        if nulls and number % 5 == 1:
            asked["y"] = None
        row = reader.read(asked, number, number)
        reads.append((LoggedRead(asked, number, number, row.positions), row.values))
        append(ctx, "pay", [asked])
        apply(ctx, views, ("pay",))
    logged, live = [one for one, _ in reads], np.array([values for _, values in reads])

    frames = {"pay": history(ctx, "pay")}
    filled = backfill(FEATURES, asking_points(EventSpine("pay"), frames, ctx.specs), frames, ctx.specs, spine="pay")
    compared = zip(FEATURES.columns, matrix(FEATURES, filled).T, live.T, strict=True)
    assert [name for name, mine, theirs in compared if not np.array_equal(mine, theirs, equal_nan=True)] == []
    assert np.array_equal(recompute(FEATURES, logged, frames, ctx.specs, asking="pay"), live, equal_nan=True)
    asked = [one.request["y"] for one in logged]
    assert filled["digit_y"].to_list() == [None if y is None else float(y) % 10 if nulls else y % 10 for y in asked]
    assert not filled.select(pl.any_horizontal(pl.col(pl.Float64).is_nan().any())).item()
    assert filled["log"].null_count() == filled["twice"].null_count() == 18

    asks = [Ask(one.request | {"id": 100 + one.own_id}, NOW, 100 + one.own_id) for one in logged]
    together = [row.values for row in reader.read_many(asks)]
    assert np.array(together).tobytes() == np.array([reader.read(*ask).values for ask in asks]).tobytes()
    ctx.close()


def test_a_read_gives_what_was_known_but_for_what_came_late(tmp_path):
    """`features read` and `features_at`: the same where the events were created by the asking time."""
    made = dataclasses.replace(PAY, fields=(*PAY.fields, Field("made", "datetime")), created="made")
    ctx = world(tmp_path, made)
    late = {"at": 90, "made": format_time(180)}
    append(ctx, "pay", [payment(n, 4 * n) | {"made": format_time(4 * n), "y": n} for n in range(25)])
    append(ctx, "pay", [payment(99, 0) | {"y": 77} | late])
    apply(ctx, OnlineViews(ctx, stored_views(ctx.specs)), ("pay",))

    def both(moment):
        request = {"a": 0, "x": 1.5, "y": 4}
        given = [f"{name}={value}" for name, value in request.items()]
        then = format_time(moment)
        online = {f.name: read(ctx, f.name, given, then).values for f in (*FUNCTIONS, WIDEST, TILED, LATEST)}
        known = {name: values_of_rows(ctx, name, pl.DataFrame([request]), then) for name in online}
        return online, {name: {c: frame[c][0] for c in online[name]} for name, frame in known.items()}

    for moment in (88, 196):
        online, known = both(moment)
        assert online == known
    online, known = both(96)
    assert (online["widest"]["widest_most_w"], known["widest"]["widest_most_w"]) == (77, 24)
    assert online["latest"] == known["latest"], "attributes leave out what was created later in both"
    ctx.close()
