"""Backfill: the features of many asking points at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.arguments import FLOAT, Dtype, argument_dtypes, array_of_series
from headrace.features.arrivals import ARRIVAL, arrivals, in_order_of_knowledge, lies_in_several
from headrace.features.frames import AskingPoints, frame_of, view_series, view_values
from headrace.features.reducers import Values
from headrace.features.requests import asking_stream, evaluate_requests, ordered
from headrace.features.routes import route_of
from headrace.features.timeline import ALWAYS
from headrace.features.types import FeatureSet, StoredView
from headrace.kernel.specs import Specs


def in_order_of_creation(frame: pl.DataFrame) -> pl.DataFrame:
    """The events in the order in which they became known, which counts as their offset: a history that is imported behind
    live events was known before them."""
    if frame["_created"].is_sorted():
        return frame
    return frame.sort("_created", "_offset").with_columns(_offset=pl.int_range(pl.len(), dtype=pl.Int64))


def arranged(frame: pl.DataFrame, stream: StreamSpec, *, spine: bool) -> pl.DataFrame:
    """The events with the order in which they became known: to the asking events of the same stream (`spine`) that of their
    offsets, else that of their creation. Of a stream of several partitions their positions break ties, as online; else this
    order does."""
    if spine:
        return frame
    return in_order_of_knowledge(frame) if stream.partitions > 1 else in_order_of_creation(frame)


def created_positions(frame: pl.DataFrame, at: np.ndarray) -> np.ndarray:
    """The last arrival of the events with `_created` <= at, -1 for none: what was known by then."""
    if not len(frame):
        return np.full(len(at), -1, np.int64)
    created, known = frame["_created"].to_numpy(), arrivals(frame)
    if ARRIVAL in frame.columns:
        order = np.argsort(known)
        created, known = created[order], known[order]
    return np.append(known, -1)[np.searchsorted(created, at, side="right") - 1]


def asking_points_of(
    view: StoredView, asking: pl.DataFrame, frames: Mapping[str, pl.DataFrame], spine: str | None
) -> AskingPoints:
    """The asking points as `view` sees them. `spine`: the stream whose events the rows are, None for snapshots."""
    at = asking["_at"].to_physical().to_numpy()
    reported = np.full(len(at), ALWAYS)
    if view.stream == spine:
        own = asking["_own"].to_numpy()
        return AskingPoints(asking, at, _own_arrivals(frame_of(frames, spine), own), own, reported, own >= 0)
    own = np.full(len(at), -1, np.int64)
    return AskingPoints(asking, at, created_positions(frame_of(frames, view.stream), at), own, reported, own >= 0)


def _own_arrivals(frame: pl.DataFrame, own: np.ndarray) -> np.ndarray:
    """The arrivals of the asking events; `own` itself where these are the offsets."""
    if ARRIVAL not in frame.columns:
        return own
    place = np.searchsorted(frame["_offset"].to_numpy(), own)
    return np.where(own < 0, -1, np.append(frame[ARRIVAL].to_numpy(), -1)[place])


def backfill(
    features: FeatureSet, asking: pl.DataFrame, frames: Mapping[str, pl.DataFrame], specs: Specs, *, spine: str | None
) -> pl.DataFrame:
    """The asking rows with the columns of the features, in order; rows keep their order.

    `asking` comes from `asking_points`. A row is asked at `_at`, with everything seen of `spine` (the stream whose events
    the rows are) up to its own offset, and of other streams what was known by then (`_created` <= `_at`); reports count
    from their event time on. Of the spine's other partitions it sees what was known when it became known itself
    (`arrivals.in_order_of_knowledge`). `spine` is None when the rows are no events.
    """
    found = frames.items()
    mixed: dict[str, pl.DataFrame] = {}
    if spine is not None and any(view.stream == spine and route_of(view, specs).rekeyed for view in features.views):
        mixed[spine] = in_order_of_knowledge(frames[spine]) if lies_in_several(frames[spine]) else frames[spine]
    frames = {name: arranged(frame, specs.get(StreamSpec, name), spine=name == spine) for name, frame in found}

    def evaluated(view: StoredView) -> list[Values]:
        seen = {**frames, **mixed} if route_of(view, specs).rekeyed else frames
        return view_values(view, asking_points_of(view, asking, seen, spine), seen, specs)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(evaluated, features.views))
    values = dict(zip(features.views, results, strict=True))
    return asking.with_columns(feature_columns(features, asking, values, specs, spine or asking_stream(features)))


def feature_columns(
    features: FeatureSet, asking: pl.DataFrame, views: Mapping[StoredView, list[Values]], specs: Specs, stream: str | None
) -> list[pl.Series]:
    """The features as columns in model order, texts among them, from the values of the views; `asking` may hold columns of
    views too. `stream`: that of which the rows are, None for none."""
    columns: dict[str, pl.Series] = {}
    for view, values in views.items():
        columns.update({series.name: series for series in view_series(view, values, specs)})
    columns.update(_request_columns(features, asking, columns, argument_dtypes(features, specs, stream)))
    return [_without_nan(columns[name] if name in columns else asking[name]) for name in features.given]


def _without_nan(values: pl.Series) -> pl.Series:
    """What is no number is null, as it is online, wherever it comes from: a field, a sum of infinities, a function."""
    return values.fill_nan(None) if values.dtype.is_float() else values


def _request_columns(
    features: FeatureSet, asking: pl.DataFrame, computed: Mapping[str, pl.Series], dtypes: Mapping[str, Dtype]
) -> dict[str, pl.Series]:
    """The columns of the functions."""
    functions = ordered(features)
    series = {**{name: asking[name] for name in asking.columns}, **computed}
    read = dict.fromkeys(name for function in functions for name in function.inputs if name in series)
    arrays = {name: array_of_series(series[name], dtypes.get(name, FLOAT)) for name in read}
    evaluate_requests(functions, arrays, len(asking))
    return {column: pl.Series(column, arrays[column]) for function in functions for column in function.columns}


def streams_of(features: FeatureSet) -> list[str]:
    """The streams whose events the views read, reports included."""
    streams = [view.stream for view in features.views]
    streams += [view.join.report for view in features.views if view.join is not None]
    return list(dict.fromkeys(streams))


def matrix(features: FeatureSet, frame: pl.DataFrame) -> np.ndarray:
    """The model's matrix: float64 [n, F] in feature order, NaN for null, 0 and 1 for bool."""
    columns = [frame[name].cast(pl.Float64).to_numpy() for name in features.columns]
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0))
