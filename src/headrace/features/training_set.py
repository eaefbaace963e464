"""Training sets: features and labels at the asking points whose horizon is over."""

from __future__ import annotations

from typing import Protocol

import polars as pl

from headrace.data.history import history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.asking import asking_points, spine_stream
from headrace.features.backfill import backfill, streams_of
from headrace.features.labels import known_frames, label_rows
from headrace.features.types import FeatureSet, Label, SnapshotSpine, Spine


class Model(Protocol):
    """What a training set needs to know of a declared model."""

    @property
    def features(self) -> FeatureSet: ...
    @property
    def label(self) -> Label: ...
    @property
    def spine(self) -> Spine: ...


def training_frames(ctx: Context, model: Model) -> dict[str, pl.DataFrame]:
    """The accepted events of every stream that the model's asking points, features and label read."""
    names = [model.spine.stream, *streams_of(model.features), model.label.stream]
    return {name: history(ctx, name) for name in dict.fromkeys(names)}


def training_set(ctx: Context, model: Model, *, start: int, end: int, known_at: int) -> pl.DataFrame:
    """The trainable rows with start <= asking time < end: keys, time, `_own` (offset of the asking event, -1 for none), the
    features in model order, `label` (of the type that `label_rows` gives), as of the event time `known_at`."""
    frames = training_frames(ctx, model)
    stream = ctx.specs.get(StreamSpec, model.spine.stream)
    asking = asking_points(model.spine, frames, ctx.specs, start=start, end=end)
    known = known_frames(model.label, frames, known_at)
    value, trainable = label_rows(model.label, asking, known, ctx.specs, known_at=known_at)
    asking = asking.with_columns(value.alias("_label")).filter(pl.Series(trainable))
    rows = backfill(model.features, asking, frames, ctx.specs, spine=spine_stream(model.spine))
    keys = model.spine.keys if isinstance(model.spine, SnapshotSpine) else (stream.key,)
    columns = dict.fromkeys([*keys, stream.time, "_own", *model.features.columns])
    return rows.select(*columns, pl.col("_label").alias("label"))
