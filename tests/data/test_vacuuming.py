from __future__ import annotations

import os
import re
from pathlib import Path

import polars as pl
import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import GOOD, SPECS, apply_all

from headrace.data.appending import append_raw
from headrace.data.datasets import load, pin
from headrace.data.history import history
from headrace.data.operations import vacuum_datasets
from headrace.data.vacuuming import VacuumedTable
from headrace.kernel.errors import CheckFailed, InvalidInput

TRAINING = "shop/datasets/training"
FRAME = pl.DataFrame({"key": ["a", None, "c"], "value": [0.1, float("nan"), -0.0]})


def _two_hours_pass(lake: Path) -> None:
    """For the files and for the notes of when they were given up."""
    for note in lake.rglob("*.json"):
        note.write_text(re.sub(r'("deletionTimestamp":)(\d+)', lambda m: f"{m[1]}{int(m[2]) - 7_200_000}", note.read_text()))
    for path in lake.rglob("*.parquet"):
        changed = path.stat().st_mtime - 7200
        os.utime(path, (changed, changed))


def test_pinned_versions_outlive_a_vacuum_and_others_go(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", GOOD)
    apply_all(ctx, max_records=1, flush_rows=1)
    ctx.lake.compact("shop/streams/order")
    pinned = [pin(ctx, "training", FRAME.head(rows), inputs={"rows": rows}) for rows in (1, 2)]
    unpinned = ctx.lake.overwrite(TRAINING, FRAME.with_row_index("_row"))
    last = pin(ctx, "training", FRAME, inputs={})
    orphan = ctx.settings.data / "lake" / TRAINING / "part-of-a-killed-writer.parquet"
    orphan.write_bytes(b"PAR1")
    before = history(ctx, "order")
    nothing = [VacuumedTable("shop/streams/order", 0, 0), VacuumedTable(TRAINING, 3, 0)]
    assert vacuum_datasets(ctx) == vacuum_datasets(ctx, hours=1) == nothing
    _two_hours_pass(ctx.settings.data / "lake")
    assert vacuum_datasets(ctx, hours=3) == nothing
    assert vacuum_datasets(ctx, hours=1) == [
        VacuumedTable("shop/streams/order", 0, len(GOOD)),
        VacuumedTable(TRAINING, 3, 2),
    ]
    for version, rows in zip([*pinned, last], (1, 2, 3), strict=True):
        assert_frame_equal(load(ctx, version.ref), FRAME.head(rows), check_exact=True)
    with pytest.raises(CheckFailed):
        ctx.lake.read(TRAINING, version=unpinned)
    assert not orphan.exists()
    assert_frame_equal(history(ctx, "order"), before)
    assert vacuum_datasets(ctx, hours=1) == nothing
    again = pin(ctx, "training", FRAME.tail(1), inputs={})
    assert_frame_equal(load(ctx, again.ref), FRAME.tail(1), check_exact=True)


def test_what_is_being_written_is_out_of_reach(make_context: MakeContext) -> None:
    with pytest.raises(InvalidInput, match="hours=0"):
        vacuum_datasets(make_context(SPECS), hours=0)


@pytest.mark.slow
def test_a_pin_outlives_a_hundred_later_versions_and_a_month(make_context: MakeContext) -> None:
    """A checkpoint, each 100 commits, would drop the logs of what is older than 30 days."""
    ctx = make_context(SPECS)
    first = pin(ctx, "training", FRAME, inputs={})
    logs = ctx.settings.data / "lake" / TRAINING / "_delta_log"
    month = 40 * 86_400
    for number in range(101):
        if number == 98:
            for note in logs.glob("*.json"):
                changed = note.stat().st_mtime - month
                os.utime(note, (changed, changed))
        ctx.lake.overwrite(TRAINING, FRAME.head(1).with_row_index("_row"))
    assert list(logs.glob("*.checkpoint.parquet"))
    assert_frame_equal(load(ctx, first.ref), FRAME, check_exact=True)
