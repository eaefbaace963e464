"""The rows on which a trained model is judged."""

from __future__ import annotations

import polars as pl

from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.asking import asking_points, spine_stream
from headrace.features.backfill import backfill
from headrace.features.labels import known_frames, label_rows
from headrace.features.training_set import training_frames
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import format_time
from headrace.training.answers import labels_of, shown_labels, told_apart
from headrace.training.types import ModelSpec


def judging_rows(
    ctx: Context, spec: ModelSpec, *, start: int, end: int, known_at: int, history_start: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The asking rows with history_start <= time < end and their `label`, and of them those from `start` on with their
    features; only rows whose label is mature at `known_at`. CheckFailed when the test rows hold labels of one value."""
    frames = training_frames(ctx, spec)
    asking = asking_points(spec.spine, frames, ctx.specs, start=min(history_start, start), end=end)
    known = known_frames(spec.label, frames, known_at)
    value, mature = label_rows(spec.label, asking, known, ctx.specs, known_at=known_at)
    asking = asking.with_columns(value.alias("label")).filter(pl.Series(mature))
    test = asking.filter(pl.col("_at").dt.epoch("us") >= start)
    labels = labels_of(test)
    if not told_apart(labels):
        raise CheckFailed(
            f"the {test.height} rows from {format_time(start)} to {format_time(end)} whose label is mature hold "
            f"{shown_labels(labels)}: they cannot judge a model",
            hint="choose a longer or an earlier test window",
        )
    return asking, backfill(spec.features, test, frames, ctx.specs, spine=spine_stream(spec.spine))


def time_column(ctx: Context, spec: ModelSpec) -> str:
    """The column of a training set that holds the asking time."""
    return ctx.specs.get(StreamSpec, spec.spine.stream).time
