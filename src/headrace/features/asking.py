"""Asking points: when, and for which request, the features of a model are evaluated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.frames import frame_of
from headrace.features.types import EventSpine, SnapshotSpine, Spine
from headrace.kernel.specs import Specs


def asking_points(
    spine: Spine, frames: Mapping[str, pl.DataFrame], specs: Specs, *, start: int | None = None, end: int | None = None
) -> pl.DataFrame:
    """One row per asking point with start <= time < end: the request's fields, `_at` (Datetime) and `_own`, the offset of
    the asking event, -1 when the point is no event. Events in order of offset, snapshots by (time, key)."""
    stream = specs.get(StreamSpec, spine.stream)
    frame = frame_of(frames, spine.stream)
    if isinstance(spine, SnapshotSpine):
        return _snapshots(spine, frame, stream, start, end)
    time = pl.col(stream.time).to_physical()
    if start is not None:
        frame = frame.filter(time >= start)
    if end is not None:
        frame = frame.filter(time < end)
    fields = [field.name for field in stream.fields]
    return frame.select(*fields, pl.col(stream.time).alias("_at"), pl.col("_offset").alias("_own"))


def spine_stream(spine: Spine) -> str | None:
    """The stream whose events the asking points are, None for snapshots."""
    return spine.stream if isinstance(spine, EventSpine) else None


def _snapshots(
    spine: SnapshotSpine, frame: pl.DataFrame, stream: StreamSpec, start: int | None, end: int | None
) -> pl.DataFrame:
    """For each multiple of the period, the keys of which an event with a time up to then was known by then."""
    time = frame[stream.time].to_physical()
    seen = frame.select(*spine.keys, pl.max_horizontal(time, pl.col("_created")).alias("_seen")).drop_nulls()
    first = seen.group_by(spine.keys).agg(pl.col("_seen").min()).sort(spine.keys)
    low = int(first["_seen"].min() or 0) if start is None else start  # type: ignore[arg-type]
    high = (int(time.max() or 0) + 1 if len(time) else low) if end is None else end  # type: ignore[arg-type]
    points = np.arange(-(-low // spine.period) * spine.period, high, spine.period, dtype=np.int64)
    at = pl.DataFrame({"_at": points}, schema={"_at": pl.Int64})
    rows = at.join(first, how="cross").filter(pl.col("_seen") <= pl.col("_at"))
    moment = pl.col("_at").cast(pl.Datetime("us", "UTC"))
    return rows.select(*spine.keys, moment.alias(stream.time), moment.alias("_at"), pl.lit(-1, pl.Int64).alias("_own"))
