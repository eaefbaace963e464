"""Nulls in `where` and in functions: the same beside any other values, stored, online, in training and recomputed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from test_rebuild import NOW, append, apply

from headrace.data.history import history
from headrace.data.types import Field, StreamSpec
from headrace.engines.open import open_context
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, matrix
from headrace.features.backfill_files import backfill_files
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
    WindowView,
    stored_views,
)  # fmt: skip
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import format_time

FIELDS = (
    Field("id", "int"), Field("at", "datetime"), Field("a", "int"), Field("f", "bool", nullable=True),
    Field("y", "int", nullable=True), Field("z", "int"), Field("t", "datetime", nullable=True), Field("g", "bool"),
)  # fmt: skip
PAY = StreamSpec("pay", FIELDS, "id", "a", "at", lateness=20)


def counted(name, where, **options):
    return WindowView(name, "pay", ("a",), (("w", 50),), (("n", Aggregate("count")),), predicate=where, **options)


def per(y, z):
    with np.errstate(all="ignore"):
        return y // z > 100


WHERES = (
    counted("flag", lambda f: f, own_event=True), counted("per", per, own_event=True), counted("stored", lambda f: f),
    counted("divided", per), counted("odd", lambda y: y % 2 != 0, own_event=True), counted("other", lambda y: y != 7),
)  # fmt: skip
BOUNDS = WindowView(
    "bounds", "pay", ("a",), (("w", 3),),
    (("y", Aggregate("last", "y")), ("z", Aggregate("min", "z")), ("g", Aggregate("last", "g")), ("t", Aggregate("last", "t"))),
)  # fmt: skip
LATEST = AttributeView("latest", "latest", "pay", ("a",), ("f", "z", "t", "g"), ttl=2)


def flags(f, y, z, g):
    with np.errstate(all="ignore"):
        return {"flag": np.where(f, 1, 2), "ratio": y // z, "turned": ~g}


def known(bounds_y_w, bounds_z_w, bounds_g_w, bounds_t_w, latest_f, latest_z, latest_t, latest_g, z, flag_n_w):
    with np.errstate(all="ignore"):
        return {
            "last": bounds_y_w // z, "least": 7 // bounds_z_w, "was": np.where(bounds_g_w, 1, 2), "is_f": latest_f == 1,
            "is_z": latest_z // 2, "late": np.isnat(latest_t) | np.isnat(bounds_t_w), "is_g": np.where(latest_g, 1, 2),
            "halves": flag_n_w // 2,
        }  # fmt: skip


MADE = (("flag", "ratio", "turned"), ("last", "least", "was", "is_f", "is_z", "late", "is_g", "halves"))
FUNCTIONS = tuple(
    RequestFeatures(f.__name__, f, f.__code__.co_varnames[: f.__code__.co_argcount], made)
    for f, made in zip((flags, known), MADE, strict=True)
)
FEATURES = FeatureSet((*WHERES, BOUNDS, LATEST, *FUNCTIONS))
SPECS = Specs((PAY, *WHERES, BOUNDS, LATEST, *FUNCTIONS))


def paid(number):
    at = number + 3 * (number % 9 == 0)
    return {
        "id": number, "at": at, "a": number % 2, "f": (None, True, False)[number % 3], "y": (7, None, 5, 900)[number % 4],
        "z": (0, 2, 3)[number % 5 % 3], "t": None if number % 3 else at, "g": number % 4 < 2,
    }  # fmt: skip


def test_a_null_changes_nothing_beside_it(tmp_path):
    events = [paid(number) for number in range(24)]
    reads, frames, last = live(tmp_path / "each", events, 1)
    logged, values = [one for one, _ in reads], np.array([values for _, values in reads])
    assert {name: values[:, FEATURES.columns.index(name)].max() for name in ("flag_n_w", "late")} == {"flag_n_w": 4, "late": 1}
    assert different(recompute(FEATURES, logged, frames, SPECS, asking="pay"), values) == []
    alone = np.array([recompute(FEATURES, [one], frames, SPECS, asking="pay")[0] for one in logged[::3]])
    assert different(alone, values[::3]) == []
    filled = backfill(FEATURES, asking_points(EventSpine("pay"), frames, SPECS), frames, SPECS, spine="pay")
    assert different(matrix(FEATURES, filled), values) == []
    frames["pay"].drop("_offset", "_created").write_parquet(tmp_path / "pay.parquet")
    for memory in ("64GB", "150KB"):
        out = tmp_path / f"{memory}.parquet"
        backfill_files(SPECS, {"pay": tmp_path / "pay.parquet"}, spine="pay", out=out, memory=memory)
        assert different(matrix(FEATURES, pl.read_parquet(out)), values) == []
    reads, frames, together = live(tmp_path / "all", events, 24)
    assert different(together, last) == []
    values = np.array([values for _, values in reads])
    assert different(recompute(FEATURES, [one for one, _ in reads], frames, SPECS, asking="pay"), values) == []


def live(folder, events, batch):
    """The reads of the events before each was applied, in batches of so many, their history, and what is read at the end: of
    all at once, after it was seen that this is what each gives alone."""
    ctx = open_context(Settings(data=folder), "shop", SPECS, clock=FixedEventClock(NOW))
    views = OnlineViews(ctx, stored_views(SPECS))
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="pay")
    reads = []
    for number, event in enumerate(events):
        row = reader.read(event, event["at"], event["id"])
        reads.append((LoggedRead(event, event["at"], event["id"], row.positions), row.values))
        if (number + 1) % batch == 0:
            arrived = events[number + 1 - batch : number + 1]
            append(ctx, "pay", [e | {"t": None if e["t"] is None else format_time(e["t"])} for e in arrived])
            apply(ctx, views, ("pay",))
    asks = [Ask(event | {"id": 100 + event["id"]}, 30, 100 + event["id"]) for event in events]
    last = np.array([row.values for row in reader.read_many(asks)])
    assert different(np.array([reader.read(*ask).values for ask in asks]), last) == []
    frames = {"pay": history(ctx, "pay")}
    ctx.close()
    return reads, frames, last


def different(left, right):
    return [n for n, a, b in zip(FEATURES.columns, left.T, right.T, strict=True) if not np.array_equal(a, b, equal_nan=True)]


def test_a_null_where_none_can_be_is_refused(tmp_path):
    ctx = open_context(Settings(data=tmp_path), "shop", SPECS, clock=FixedEventClock(NOW))
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="pay")
    with pytest.raises(InvalidInput, match="`g` is null"):
        reader.read(paid(1) | {"g": None}, 1, None)
    ctx.close()
