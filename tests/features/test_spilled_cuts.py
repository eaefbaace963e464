"""Parts that no key divides are cut by time: the bits of the backfill in memory, or a refusal of what does not fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scenario import COUNT, JOIN, OVER, PAY, REPORT, VIEWS, all_of
from test_spilled_backfill import both, same

from headrace.data.types import Field
from headrace.features.backfill_files import backfill_files
from headrace.features.types import AttributeView, WindowView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.specs import Specs

MADE = dataclasses.replace(PAY, fields=(*PAY.fields, Field("made", "datetime")), created="made")
TEXTS = ("word", "b")
ATTRIBUTES = (
    AttributeView("newest", "newest", "pay", ("a",), ("x", "word"), ttl=20, text_columns=TEXTS),
    AttributeView("ever", "ever", "pay", ("a",), ("y", "b"), text_columns=TEXTS),
    AttributeView("latest", "latest", "pay", (), ("x", "b", "flag"), text_columns=TEXTS),
    AttributeView("both", "both", "pay", ("a", "b"), ("y", "word"), ttl=300, text_columns=TEXTS),
)
PER_ID = WindowView("per_id", "pay", ("id",), OVER, COUNT + all_of("x", "sum", "last"), delay=1)
CHOSEN = (
    ("pay", ("own", "ever", "newest"), "250KB"), ("pay", ("tiled", "ever"), "200KB"), ("pay", ("all", "latest"), "150KB"),
    ("pay", ("latest", "both"), "40KB"), ("pay", ("sawtooth", "delayed"), "200KB"), ("pay", ("plain", "teeth"), "150KB"),
    ("report", ("all", "sawtooth", "latest", "per_id"), "250KB"),
)  # fmt: skip
"""Spines, features, and an amount of memory for which their parts must be cut."""


def history(folder, *, seed, created, arrival, rows=240):
    """Payments of which nine in ten have one key, a third at a time that another has, a tenth late by up to 20 or created
    later than they happened, late or all `mixed`; and reports of nearly half of them."""
    random = np.random.default_rng(seed)
    late = (random.random(rows) < 0.1) * random.integers(0, 20, rows)
    at = np.maximum(np.arange(rows) + random.integers(0, 2, rows) - late, 0)
    at = np.where(random.random(rows) < 0.3, at // 4 * 4, at)
    if arrival == "mixed":
        random.shuffle(at)
    some = random.random(rows) < 0.1
    x = pl.Series(random.choice([0.1, 0.2, 0.3, 1e16, -1e16, -0.0, 3.3], rows)).set(pl.Series(random.random(rows) < 0.1), None)
    payments = pl.DataFrame({
        "id": np.arange(rows), "at": at, "a": (random.random(rows) > 0.9) * random.integers(0, 9, rows),
        "b": random.choice(["u", "v", None], rows, p=[0.8, 0.1, 0.1]).tolist(), "x": x, "y": random.integers(0, 6, rows),
        "flag": random.random(rows) < 0.5, "word": random.choice(["k", "l", None], rows).tolist(),
        "made": at + some * random.integers(0, 200, rows),
    }).with_columns(pl.col("at", "made").cast(pl.Datetime("us", "UTC")))  # fmt: skip
    reported = np.sort(random.integers(0, rows, rows // 2))
    reports = pl.DataFrame({"id": reported, "at": at[reported] + random.integers(-5, 40, len(reported))}).with_columns(
        pl.col("at").cast(pl.Datetime("us", "UTC"))
    )
    paths = {"pay": folder / "pay.parquet", "report": folder / "report.parquet"}
    payments.write_parquet(paths["pay"])
    reports.unique("id").sort("at").write_parquet(paths["report"])
    return Specs((MADE if created else PAY, REPORT, JOIN, *VIEWS, *ATTRIBUTES, PER_ID)), paths


@pytest.mark.slow
@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(st.integers(0, 1 << 30), st.booleans(), st.sampled_from(("late", "mixed")), st.sampled_from(CHOSEN))
def test_cuts_give_the_same_bits(tmp_path_factory, seed, created, arrival, chosen):
    folder = tmp_path_factory.mktemp("cuts")
    spine, features, memory = chosen
    specs, paths = history(folder, seed=seed, created=created, arrival=arrival)
    same(*both(specs, paths, folder, spine=spine, features=features, memory=memory))


def test_a_window_of_more_than_fits_is_refused(tmp_path):
    specs, paths = history(tmp_path, seed=1, created=False, arrival="late", rows=120)
    with pytest.raises(InvalidInput, match=r"view `all` hold up to [0-9]+ events of no key at once") as refused:
        backfill_files(specs, paths, spine="pay", features=["all"], memory="30KB", out=tmp_path / "out.parquet")
    assert "give --memory" in refused.value.hint
