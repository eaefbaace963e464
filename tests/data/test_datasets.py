from __future__ import annotations

import hashlib
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import SPECS, Faults, Killed, dying

from headrace.data.datasets import dataset, datasets, frame_hash, inputs_of, load, pin
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound

FRAME = pl.DataFrame(
    {
        "key": ["b", "a", None, "é"],
        "at": [datetime(2026, 1, day, tzinfo=UTC) for day in (3, 1, 2, 4)],
        "count": pl.Series([3, None, 1, 2], dtype=pl.Int64),
        "mean": [0.1, float("nan"), None, 4.0],
        "label": pl.Series([1, 0, 0, 1], dtype=pl.Int8),
        "known": [True, None, False, True],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)


def test_a_pinned_version_comes_back_row_by_row(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    first = pin(ctx, "training", FRAME, inputs={"model": "m", "known_at": 5})
    second = pin(ctx, "training", FRAME.head(2), inputs={"model": "m"})
    assert_frame_equal(load(ctx, first.ref), FRAME, check_exact=True)
    assert_frame_equal(load(ctx, second.ref), FRAME.head(2), check_exact=True)
    assert (first.rows, first.created_at, first.name) == (4, "2026-01-31T12:00:00Z", "training")
    assert datasets(make_context(SPECS)) == [first, second]
    assert inputs_of(ctx, first.ref) == {"model": "m", "known_at": 5}
    with pytest.raises(NotFound, match="training@0"):
        dataset(ctx, "training@7")
    with pytest.raises(InvalidInput):
        pin(ctx, "../training", FRAME, inputs={})


def test_types_that_the_lake_has_not_are_pinned_as_others_or_refused(make_context: MakeContext) -> None:
    """What functions of features return: `numpy.uint8`, `datetime64[ns]`."""
    ctx = make_context(SPECS)
    given = {
        "flag": np.array([1, 255], np.uint8),
        "at": np.array([1, 2], "datetime64[ns]"),
        "ratio": np.array([0.1, 2], np.float32),
    }
    frame = pl.DataFrame(given).with_columns(pl.Series("kind", ["a", "b"], dtype=pl.Categorical))
    ref = pin(ctx, "training", frame, inputs={}).ref
    assert pin(ctx, "training", frame, inputs={}).ref == ref
    schema = {"flag": pl.Int64, "at": pl.Datetime("us"), "ratio": pl.Float32, "kind": pl.String}
    assert_frame_equal(load(ctx, ref), frame.cast(schema), check_exact=True)
    for value in (np.array([2**64 - 1], np.uint64), [[1]], [None]):
        with pytest.raises(InvalidInput, match="number"):
            pin(ctx, "training", pl.DataFrame({"flag": value}), inputs={})


def test_the_same_content_from_the_same_inputs_is_one_version(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    first = pin(ctx, "training", FRAME, inputs={"b": [1, 2], "a": "x"})
    assert pin(ctx, "training", FRAME.clone(), inputs={"a": "x", "b": [1, 2]}) == first
    assert pin(ctx, "training", FRAME, inputs={"a": "y"}) != first


def test_pinning_that_was_killed_is_done_again(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    for at in (0, 1):
        with pytest.raises(Killed):
            pin(dying(ctx, Faults(at)), "training", FRAME, inputs={})
        assert datasets(ctx) == []
    pinned = pin(ctx, "training", FRAME, inputs={})
    assert_frame_equal(load(ctx, pinned.ref), FRAME, check_exact=True)


def test_changed_content_is_found(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    pinned = pin(ctx, "training", FRAME, inputs={})
    folder = tmp_path / "data" / "lake" / "shop" / "datasets" / "training"
    (file,) = folder.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckFailed, match="training"):
        load(ctx, pinned.ref)
    shutil.rmtree(folder)
    assert ctx.lake.overwrite("shop/datasets/training", FRAME.reverse().with_row_index("_row")) == pinned.version
    with pytest.raises(CheckFailed, match=pinned.ref):
        load(ctx, pinned.ref)


def test_the_hash_is_over_the_documented_bytes() -> None:
    frame = pl.DataFrame({"n": [1, None], "s": ["é", "ab"]}, {"n": pl.Int64(), "s": pl.String()})
    expected = hashlib.sha256(
        b'["n","Int64",2,1]' + bytes([0b01000000]) + struct.pack("<q", 1)
        + b'["s","String",2,0]' + struct.pack("<II", 2, 2) + "éab".encode()
    )  # fmt: skip
    assert frame_hash(frame) == expected.hexdigest()


def test_the_hash_depends_on_content_alone() -> None:
    assert frame_hash(pl.concat([FRAME.head(1), FRAME.tail(3)], rechunk=False)) == frame_hash(FRAME)
    negative_nan = (
        pl.Series("mean", np.array([0.1, -np.nan, 0, 4.0])).to_frame().with_columns(FRAME["mean"].is_null().alias("null"))
    )
    same = FRAME.with_columns(pl.when(~negative_nan["null"]).then(negative_nan["mean"]).alias("mean"))
    assert frame_hash(same) == frame_hash(FRAME)
    others = [
        FRAME.reverse(),
        FRAME.select(reversed(FRAME.columns)),
        FRAME.rename({"mean": "average"}),
        FRAME.with_columns(pl.col("count").cast(pl.Int32)),
        FRAME.with_columns(pl.col("count").fill_null(0)),
        FRAME.with_columns(pl.col("key").fill_null("")),
        FRAME.with_columns(pl.col("mean").fill_nan(None)),
        FRAME.with_columns(pl.Series("key", ["ba", "", None, "é"])),
        FRAME.head(3),
    ]
    assert len({frame_hash(frame) for frame in [FRAME, *others]}) == len(others) + 1
