"""Recomputing what was read: the features of logged requests at their logged positions, from event frames alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.backfill import feature_columns, matrix
from headrace.features.frames import DTYPES, AskingPoints, frame_of, view_values
from headrace.features.recompute_vectors import LoggedReads, vector_values
from headrace.features.reducers import Values
from headrace.features.requests import asking_stream
from headrace.features.routes import Route, route_of, vector_of
from headrace.features.types import FeatureSet, StoredView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.specs import Specs


@dataclass(frozen=True, slots=True)
class LoggedRead:
    """One logged request (times are microseconds) with its asking time, its event id if it is an event (None: it is not),
    and for each view the applied positions, as `FeatureRow` has them."""

    request: Mapping[str, Any]
    at: int
    own_id: Any | None
    positions: Mapping[str, Mapping[str, int]]


def recompute(
    features: FeatureSet, reads: Sequence[LoggedRead], frames: Mapping[str, pl.DataFrame], specs: Specs,
    *, asking: str | None = None,
) -> np.ndarray:  # fmt: skip
    """float64 [n, F] in model order, NaN for null: equal to what `FeatureReader.read` gave, to the bit.

    `frames` hold the accepted events of every stream that the views read. `asking` as for FeatureReader.
    """
    stream = asking or asking_stream(features)
    table = _requests(reads, specs, stream)
    at = np.array([read.at for read in reads], np.int64)

    def evaluated(view: StoredView) -> list[Values]:
        route = route_of(view, specs)
        is_event = np.array([view.stream == stream and read.own_id is not None for read in reads])
        own = _own_offsets(view, table, at, is_event, frames, specs)
        logged = LoggedReads(table, at, _logged(view, reads, route), is_event, own)
        if route.rekeyed:
            return vector_values(view, route, logged, frames, specs)
        return view_values(view, _points(view, logged), frames, specs)

    columns = feature_columns(features, table, {view: evaluated(view) for view in features.views}, specs, stream)
    return matrix(features, pl.DataFrame(columns))


def _requests(reads: Sequence[LoggedRead], specs: Specs, stream: str | None) -> pl.DataFrame:
    """The requests as a frame; fields have the types of the asking stream, else of any stream that has them."""
    types = {f.name: f.type for spec in specs.all(StreamSpec) for f in spec.fields}
    if stream is not None:
        types |= {f.name: f.type for f in specs.get(StreamSpec, stream).fields}
    names = dict.fromkeys(name for read in reads for name in read.request)
    columns = []
    for name in names:
        values = [read.request.get(name) for read in reads]
        kind = types.get(name)
        if kind == "datetime":
            columns.append(pl.Series(name, values, dtype=pl.Int64).cast(DTYPES["datetime"]))
        else:
            columns.append(pl.Series(name, values, dtype=None if kind is None else DTYPES[kind], strict=False))
    return pl.DataFrame(columns)


def _points(view: StoredView, reads: LoggedReads) -> AskingPoints:
    report = view.stream if view.join is None else view.join.report
    position, reported = (np.array([p[name] for p in reads.positions], np.int64) for name in (view.stream, report))
    own = np.where(reads.own <= position, reads.own, -1)
    return AskingPoints(reads.table, reads.at, position, own, reported, reads.is_event)


def _logged(view: StoredView, reads: Sequence[LoggedRead], route: Route) -> list[Mapping[str, int]]:
    """The positions of the view in each read; InvalidInput when an entry is missing."""
    names = [name for source, count in route.sources.items() for name in vector_of(source, range(count))]
    if not route.rekeyed:
        names = [view.stream] if view.join is None else [view.stream, view.join.report]
    logged = [read.positions.get(view.name, {}) for read in reads]
    absent = next((name for name in names for positions in logged if name not in positions), None)
    if absent is not None:
        raise InvalidInput(f"a logged read of `{view.name}` has no position of `{absent}`", hint="the log is of another system")
    return logged


def _own_offsets(
    view: StoredView,
    table: pl.DataFrame,
    at: np.ndarray,
    is_event: np.ndarray,
    frames: Mapping[str, pl.DataFrame],
    specs: Specs,
) -> np.ndarray:
    """The offset of each asking event, -1 unless an event of its id, key and time is in the log."""
    own = np.full(len(table), -1, np.int64)
    if not bool(is_event.any()):
        return own
    spec = specs.get(StreamSpec, view.stream)
    events = frame_of(frames, view.stream).select(
        pl.col(spec.id).alias("id"), pl.col(spec.time).to_physical().alias("time"), pl.col("_offset").alias("offset"),
        *(pl.col(name).alias(f"by {name}") for name in view.by),
    )  # fmt: skip
    asked = table.select(pl.col(spec.id).alias("id"), *(pl.col(name).alias(f"by {name}") for name in view.by))
    asked = asked.with_columns(pl.Series("time", at)).with_row_index("row")
    found = asked.join(events, on=["id", "time", *(f"by {name}" for name in view.by)], how="inner")
    own[found["row"].to_numpy()] = found["offset"].to_numpy()
    return np.where(is_event, own, -1)
