"""From frames of events to the arrays of the kernel, and from its results to frames."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from headrace.data.types import FieldType, StreamSpec
from headrace.features.arguments import array_of_series, kept, predicate_dtypes
from headrace.features.arrivals import arrivals, interleaved
from headrace.features.codes import key_codes
from headrace.features.column_types import column_types, output_aggregates
from headrace.features.hyperloglog import DISTINCT_BOUND
from headrace.features.kernel import evaluate
from headrace.features.newest import KnownEvents, Moments, newest_known
from headrace.features.reducers import Column, Values
from headrace.features.reported import Reports
from headrace.features.timeline import Asked, Events, Timeline
from headrace.features.types import Aggregate, AttributeView, StoredView, WindowView
from headrace.features.words import value_words
from headrace.kernel.errors import InvalidInput
from headrace.kernel.specs import Specs

DTYPES: dict[FieldType, pl.DataType] = {
    "int": pl.Int64(), "float": pl.Float64(), "str": pl.String(), "bool": pl.Boolean(), "datetime": pl.Datetime("us", "UTC"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AskingPoints:
    """Where a view is asked, arrays int64 [n]: `at` microseconds; `position`, `reported` as in the kernel (of the events'
    `arrivals`); `own` offset
    of the asking event in the view's stream at that position, -1 when it is not there. `is_event` bool [n]: which rows of the
    frame are events of the view's stream, so that `own_event` can add them."""

    frame: pl.DataFrame
    at: np.ndarray
    position: np.ndarray
    own: np.ndarray
    reported: np.ndarray
    is_event: np.ndarray


def frame_of(frames: Mapping[str, pl.DataFrame], stream: str) -> pl.DataFrame:
    if stream not in frames:
        known = ", ".join(f"`{name}`" for name in sorted(frames)) or "none"
        raise InvalidInput(f"the events of `{stream}` are needed; given: {known}", hint=f"give the stream `{stream}` too")
    return frames[stream]


def predicate_inputs(view: StoredView) -> tuple[str, ...]:
    """The columns that the view's `where` takes."""
    return () if view.predicate is None else tuple(inspect.signature(view.predicate).parameters)


def passing(view: StoredView, stream: StreamSpec, frame: pl.DataFrame) -> np.ndarray:
    """bool [n]: the rows that the view's `where` keeps."""
    if view.predicate is None:
        return np.ones(len(frame), bool)
    arrays = {name: array_of_series(frame[name], dtype) for name, dtype in predicate_dtypes(view, stream).items()}
    return kept(view.predicate, arrays, len(frame))


def kernel_column(values: pl.Series, *, counted: bool = False) -> Column:
    """A column for the reducers: NaN is null, -0.0 is 0.0, datetimes are microseconds, a text is the row of its first
    occurrence. `counted`: `distinct` is asked of it, so that texts that may be too many have their words."""
    valid = values.is_not_null().to_numpy() if values.null_count() else None
    if values.dtype == pl.String:
        codes = (values.cast(pl.Categorical).to_physical().cast(pl.Int64) + 1).fill_null(0).to_numpy()
        first = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        return Column(first[codes], valid, value_words(values) if counted and len(first) > DISTINCT_BOUND else None)
    if values.dtype.is_float():
        array = values.cast(pl.Float64).to_numpy() + 0.0
        missing = np.isnan(array)
        return Column(array, None if not missing.any() else ~missing)
    if values.dtype == pl.Boolean:
        return Column(values.fill_null(False).to_numpy(), valid)
    return Column(values.to_physical().cast(pl.Int64).fill_null(0).to_numpy(), valid)


def _reports(view: WindowView, on: pl.Series, frames: Mapping[str, pl.DataFrame], specs: Specs) -> Reports | None:
    """The reports of each row of `on`."""
    if view.join is None:
        return None
    time = specs.get(StreamSpec, view.join.report).time
    reports = frame_of(frames, view.join.report).select(
        pl.col(view.join.on).cast(on.dtype).alias("on"),
        pl.col(time).to_physical().alias("time"),
        pl.Series("offset", arrivals(frame_of(frames, view.join.report))),
    )
    rows = pl.DataFrame({"on": on}).with_row_index("row")
    found = rows.join(reports, on="on", how="inner").sort("row", maintain_order=True)
    row = found["row"].to_numpy()
    count = np.bincount(row, minlength=len(on)).astype(np.int64)
    return Reports(np.cumsum(count) - count, count, found["time"].to_numpy(), found["offset"].to_numpy())


def _asked_keys(view: StoredView, points: AskingPoints, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Key codes of the events and of the asking points."""
    events = [frame[name] for name in view.by]
    if len(frame) and bool(np.all(points.own >= 0)):
        key, _ = key_codes(events, [], len(frame), 0)
        offset = frame["_offset"].to_numpy()
        return key, key if np.array_equal(offset, points.own) else key[np.searchsorted(offset, points.own)]
    key, asked = key_codes(events, [points.frame[name] for name in view.by], len(frame), len(points.at))
    return key, np.minimum(asked, int(key.max(initial=-1)) + 1)  # a key without events may have a code too high for KeyedTimes


def _added(view: WindowView, stream: StreamSpec, points: AskingPoints, own: np.ndarray) -> np.ndarray:
    """Rows of the asking frame whose event the windows must add, because it is not in the log."""
    if not view.own_event or bool(np.all(own >= 0)) or not bool(points.is_event.any()):
        return np.zeros(0, np.int64)
    rows = np.flatnonzero((own < 0) & points.is_event)
    return rows if view.predicate is None else rows[passing(view, stream, points.frame[rows])]


def view_values(view: StoredView, points: AskingPoints, frames: Mapping[str, pl.DataFrame], specs: Specs) -> list[Values]:
    """The columns of `view` at the asking points, in their order, from the events of `frames`."""
    if isinstance(view, AttributeView):
        return _attributes(view, points, frames, specs)
    return _windows(view, points, frames, specs)


def _attributes(view: AttributeView, points: AskingPoints, frames: Mapping[str, pl.DataFrame], specs: Specs) -> list[Values]:
    frame = frame_of(frames, view.stream)
    key, asked_key = _asked_keys(view, points, frame)
    if not bool(np.all(key >= 0)):
        frame, key = frame.filter(pl.Series(key >= 0)), key[key >= 0]
    time = frame[specs.get(StreamSpec, view.stream).time].to_physical().to_numpy()
    events = KnownEvents(key, time, frame["_created"].to_numpy(), frame["_offset"].to_numpy(), arrivals(frame))
    rows = newest_known(events, Moments(asked_key, points.at, points.position, points.own))
    if view.ttl is not None and len(time):
        rows = np.where(points.at - time[rows] > view.ttl, -1, rows)
    results: list[Values] = []
    for name in view.source_columns:
        spare = pl.concat([frame[name], pl.Series(name, [None], dtype=frame.schema[name])])
        column = kernel_column(spare).take(rows)
        values = _texts(spare, column.values) if name in view.text_columns else column.values
        results.append((values, column.valid))
    return results


def _windows(view: WindowView, points: AskingPoints, frames: Mapping[str, pl.DataFrame], specs: Specs) -> list[Values]:
    stream = specs.get(StreamSpec, view.stream)
    frame = frame_of(frames, view.stream)
    key, asked_key = _asked_keys(view, points, frame)
    counts = (key >= 0) if view.predicate is None else (key >= 0) & passing(view, stream, frame)
    if not bool(counts.all()):
        frame, key = frame.filter(pl.Series(counts)), key[counts]
    own = np.where(asked_key < 0, -1, points.own)
    adds = _added(view, stream, points, own)
    added = np.full(len(own), -1, np.int64)
    added[adds] = len(frame) + np.arange(len(adds))
    rows = frame
    wanted = [*view.source_columns, *(() if view.join is None else (view.join.on,))]
    if len(adds) and wanted:  # without columns a frame has no rows to choose
        rows = pl.concat([frame.select(wanted), points.frame.select(wanted)[adds]], how="vertical_relaxed")
    counted = {aggregate.column for _, aggregate in view.aggregates if aggregate.kind == "distinct"}
    columns = {name: kernel_column(rows[name], counted=name in counted) for name in view.source_columns}
    reports = None if view.join is None else _reports(view, rows[view.join.on], frames, specs)
    time = frame[stream.time].to_physical().to_numpy()
    every = points.position is points.own and np.array_equal(own, frame["_offset"].to_numpy())
    timeline = Timeline(Events(key, time, frame["_offset"].to_numpy(), columns, reports, interleaved(frame)))
    asked = Asked(asked_key, points.at, points.position, own, points.reported, added)
    results = evaluate(view, timeline, None if every else asked)
    return [_decoded(a, v, rows) for (_, a), v in zip(output_aggregates(view), results, strict=True)]


def _decoded(aggregate: Aggregate, values: Values, rows: pl.DataFrame) -> Values:
    """The values, with texts in place of the rows that stand for them."""
    if aggregate.kind not in ("first", "last") or aggregate.column is None or rows[aggregate.column].dtype != pl.String:
        return values
    return _texts(rows[aggregate.column], values[0]), values[1]


def _texts(column: pl.Series, places: np.ndarray) -> np.ndarray:
    """The texts at the places in a column, which may be one beyond its end."""
    if not len(column):
        return np.full(len(places), None)
    texts: np.ndarray = column.gather(np.minimum(places, len(column) - 1)).to_numpy()
    return texts


def view_series(view: StoredView, results: list[Values], specs: Specs) -> list[pl.Series]:
    """The results as columns: counts Int64, sum, mean, std and share Float64, others of the source's type."""
    kinds = column_types(view, specs.get(StreamSpec, view.stream))
    series = []
    for (name, kind), (values, defined) in zip(kinds.items(), results, strict=True):
        dtype = DTYPES[kind]
        column = pl.Series(name, values.tolist(), dtype=dtype) if dtype == pl.String else pl.Series(name, values).cast(dtype)
        if defined is not None:
            column = column.set(pl.Series(~defined), None)
        series.append(column)
    return series
