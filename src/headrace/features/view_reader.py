"""Evaluating one window view for the requests of one moment: a slice for each, by the reducers that backfill uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.data.types import Field, FieldType, StreamSpec
from headrace.features.arguments import request_array, same_nulls
from headrace.features.frames import predicate_inputs
from headrace.features.reducers import Column, Dense, fill_empty, reduce_column
from headrace.features.report_index import ReportIndex, reported_time
from headrace.features.state import HEADER, Applied, StateLayout, value_word
from headrace.features.types import Aggregate, Ask, WindowView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import key_bytes
from headrace.kernel.namespace import Namespace
from headrace.kernel.times import format_time

NO_WORDS = np.zeros(0, np.int64)
NO_KEY = b"-"
"""A key that no state has: that of a request with a null in its key."""


Part = tuple[np.ndarray, int, int, int, int]
"""The events of one asking point's widest window: `words, size, low, end, first`: the events `low` to `end` of the `size`
stored ones of the key, whose words stand column by column in `words`; put together with those of others from `first` on."""


class _Slices:
    """The events of the widest window of each row, one row after another, each with its added asking event last.

    `starts` are those of the windows, row by row; `stops` the ends of the rows; `places` those of the added events, of
    the rows `added`; `fewest` the least number of events in a window.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.starts: list[int] = []
        self.stops: list[int] = []
        self.places: list[int] = []
        self.added: list[int] = []
        self.fewest = 1 << 62

    def add(self, words: np.ndarray, size: int, bounds: Sequence[int], end: int, *, own: bool) -> None:
        """A row whose windows begin at `bounds` and end at `end`; `own`: its asking event is added."""
        first = self.stops[-1] if self.stops else 0
        bounds = [bound if bound < end else end for bound in bounds]
        low = min(bounds)
        shift = first - low
        self.parts.append((words, size, low, end, first))
        self.starts += [bound + shift for bound in bounds]
        stop = end + shift + own
        if own:
            self.places.append(stop - 1)
            self.added.append(len(self.stops))
        self.stops.append(stop)
        self.fewest = min(self.fewest, end + own - max(bounds))

    def word(self, number: int, own: Sequence[int | float], dtype: type[np.generic] = np.int64) -> np.ndarray:
        """One word of all events and the spare element of the reducers, dtype [total + 1]; `own`: those of the added."""
        values = np.empty(self.stops[-1] + 1, np.int64)
        values[-1] = 0
        for words, size, low, end, first in self.parts:
            start = number * size
            values[first : first + end - low] = words[start + low : start + end]
        typed = values if dtype is np.int64 else values.view(dtype)
        if self.places:
            typed[self.places] = own
        return typed


class ViewReader:
    """One view, with everything prepared that does not depend on the request."""

    def __init__(self, view: WindowView, stream: StreamSpec, namespace: Namespace) -> None:
        self.view = view
        self.layout = StateLayout(view, stream, namespace)
        self._lateness = stream.lateness
        self._words = self.layout.words
        self._width = len(self._words)
        self._prefix = self.layout.prefix
        self._edges = np.array([*(-width - view.delay for _, width in view.over), -view.delay, 0], np.int64)
        self._fields = {name: self.layout.field(name) for name in view.source_columns}
        self._inputs = {name: stream.field(name).type for name in predicate_inputs(view)}
        self._streams = (stream.name,) if view.join is None else (stream.name, view.join.report)
        self._applied: tuple[bytes | None, dict[str, int], int] = (b"", {}, 0)
        self._enough = [self._least(aggregate) for _, aggregate in view.aggregates]
        self._index = None
        if view.join is not None and view.own_event:
            self._index = ReportIndex(self.layout, view.join.on)

    def _least(self, aggregate: Aggregate) -> float:
        """With so many events in a window, what is reduced is the value of the aggregate."""
        if aggregate.kind in ("count", "share") and aggregate.empty is None:
            return 0
        nulls = aggregate.column is not None and self._fields[aggregate.column].nullable
        return math.inf if nulls or self.layout.keeps_filtered else 2 if aggregate.kind == "std" else 1

    def dtypes(self) -> list[np.dtype[Any]]:
        """The NumPy type of each column, as functions that read it take it."""
        kinds: list[np.dtype[Any]] = []
        for _ in self.view.over:
            for _, aggregate in self.view.aggregates:
                source = self._fields[aggregate.column].type if aggregate.column is not None else "float"
                kinds.append(np.dtype(_dtype(aggregate, source)))
        return kinds

    def needs(self, *, is_event: bool) -> list[str]:
        """The fields of a request that are read; `is_event`: it is an event of the view's stream."""
        names = list(self.view.by) + ([] if self._index is None else [self._index.on])
        return [*names, *self._inputs, *self._fields] if is_event and self.view.own_event else names

    @property
    def key_count(self) -> int:
        return 1 if self._index is None else 2

    def keys(self, request: Mapping[str, Any]) -> list[bytes]:
        """What to read from the online store: the state and, when they may add the asking event, its report."""
        values = tuple([request[name] for name in self.view.by])
        if len(values) == 1 and type(values[0]) is int:
            keys = [self._prefix + b"%d" % values]
        else:
            keys = [NO_KEY if None in values else self.layout.key(key_bytes(values))]
        if self._index is not None:
            on = request[self._index.on]
            keys.append(NO_KEY if on is None else self._index.key(on))
        return keys

    def applied(self, blob: bytes | None) -> tuple[dict[str, int], int]:
        """The applied offset of each stream, and the oldest asking time that the state still reaches."""
        if blob != self._applied[0]:
            applied = Applied.unpack(blob)
            positions = dict(zip(self._streams, (applied.stream, applied.report), strict=False))
            self._applied = (blob, positions, applied.watermark - self._lateness)
        return self._applied[1:]

    def too_old(self, at: int, oldest: int) -> InvalidInput:
        return InvalidInput(
            f"the asking time {format_time(at)} is before {format_time(oldest)}, the oldest that view "
            f"`{self.view.name}` can answer",
            hint="declare a longer `lateness` for the stream, or backfill",
        )

    def read(
        self,
        asks: Sequence[Ask],
        at: np.ndarray,
        states: Sequence[bytes | None],
        reports: Sequence[bytes | None],
        is_event: Sequence[bool],
    ) -> tuple[np.ndarray, list[int | None]]:
        """The view's columns, float64 [n, columns], NaN for null, and the age of the newest event of each key.

        `at` int64 [n] are the asking times, `states` and `reports` the values of `keys` (reports only where there are
        any); `is_event`: whether each request is an event of the view's stream.
        """
        slices = _Slices()
        ages: list[int | None] = []
        adds = self._adds(asks, is_event)
        for row, (ask, edges, blob) in enumerate(zip(asks, at[:, None] + self._edges, states, strict=True)):
            words = np.frombuffer(blob, np.int64, -1, HEADER.size) if blob else NO_WORDS
            size = len(words) // self._width
            *bounds, end, newest = words[:size].searchsorted(edges, "right").tolist()
            ages.append(ask.at - int(words[newest - 1]) if newest else None)
            own = self._own_place(words, size, end, ask) if is_event[row] and not self.view.delay else None
            if own is not None:
                end = own + self.view.own_event
            slices.add(words, size, bounds, end, own=adds[row] and own is None)
        values = self._reduce(slices, asks, at, [reports[row] for row in slices.added] if reports else ())
        return values.reshape(len(asks), -1), ages

    def _adds(self, asks: Sequence[Ask], is_event: Sequence[bool]) -> Sequence[bool]:
        """The requests whose event is in their windows, also when it is not stored."""
        if self.view.delay or not self.view.own_event:
            return [False] * len(asks)
        if self.view.predicate is None:
            return is_event
        adds = [False] * len(asks)
        rows = [row for row, event in enumerate(is_event) if event]
        for group in same_nulls(self._inputs, [asks[row].request for row in rows]):
            members = [rows[place] for place in group]
            given = {n: request_array(k, [asks[row].request[n] for row in members]) for n, k in self._inputs.items()}
            passes = np.broadcast_to(np.asarray(self.view.predicate(**given)), len(members))
            for row, passed in zip(members, passes.tolist(), strict=True):
                adds[row] = bool(passed)
        return adds

    def _own_place(self, words: np.ndarray, size: int, end: int, ask: Ask) -> int | None:
        """The place of the asking event among the events of its time."""
        if not end or words[end - 1] != ask.at:
            return None
        first = int(words[:size].searchsorted(ask.at, side="left"))
        ids = self._words["id"] * size
        found = np.flatnonzero(words[ids + first : ids + end] == value_word(ask.own_id))
        return first + int(found[0]) if len(found) else None

    def _reduce(self, slices: _Slices, asks: Sequence[Ask], at: np.ndarray, reports: Sequence[bytes | None]) -> np.ndarray:
        """float64 [n * windows, aggregates]: each window from its start in the slices to the end of its row. `reports`
        are the report entries of the added events."""
        starts, ends = np.array(slices.starts), np.array(slices.stops).repeat(len(self.view.over))
        keep: np.ndarray | None = None
        if self.layout.keeps_filtered:
            keep = slices.word(self._words["passes"], [1] * len(slices.added))[:-1].astype(bool)
            before = np.concatenate([[0], np.cumsum(keep)])
            starts, ends = before[starts], before[ends]
        requests = [asks[row].request for row in slices.added]
        dense = {n: self._dense(slices, keep, n, f, requests) for n, f in self._fields.items()}
        events = ends - starts
        values = np.empty((len(starts), len(self.view.aggregates)))
        for number, (_, aggregate) in enumerate(self.view.aggregates):
            found = count = events
            if aggregate.column is not None:
                found, count = reduce_column(aggregate.kind, dense[aggregate.column], starts, ends)
            elif aggregate.kind == "share":
                known = self._known(slices, keep, at, reports)
                found = (known[ends] - known[starts]) / np.maximum(events, 1)
            if slices.fewest < self._enough[number]:
                found, defined = fill_empty(aggregate, found, count)
                if defined is not None:
                    found = np.where(defined, found, np.nan)
            values[:, number] = found
        return values

    def _known(self, slices: _Slices, keep: np.ndarray | None, at: np.ndarray, reports: Sequence[bytes | None]) -> np.ndarray:
        """int64 [events + 1]: how many events before each have been reported by the asking time of their row."""
        times = slices.word(self._words["reported"], [reported_time(blob) for blob in reports])[:-1]
        stops = slices.stops
        known = times <= at.repeat([stop - start for start, stop in zip([0, *stops], stops, strict=False)])
        known = known if keep is None else known[keep]
        before = np.zeros(len(known) + 1, np.int64)
        np.add.accumulate(known, dtype=np.int64, out=before[1:])
        return before

    def _dense(
        self, slices: _Slices, keep: np.ndarray | None, name: str, field: Field, requests: Sequence[Mapping[str, Any]]
    ) -> Dense:
        """A column of the slices; `requests` are those whose event is added."""
        number = self._words[f"value {name}"]
        given = [request[name] for request in requests]
        if field.type == "float":
            own = [np.nan if value is None else value + 0.0 for value in given]
            values = slices.word(number, own, np.float64)
        else:
            values = slices.word(number, [value_word(value) for value in given])
            values = values.astype(bool) if field.type == "bool" else values
        if not field.nullable and keep is None:
            return Dense(values, None)
        values = values[:-1]
        valid: np.ndarray | None = None
        if field.nullable and field.type == "float":
            valid = ~np.isnan(values)
        elif field.nullable:
            valid = slices.word(self._words[f"valid {name}"], [value is not None for value in given])[:-1].astype(bool)
        column = Column(values, valid)
        return Dense.of(column if keep is None else column.take(keep))


def _dtype(aggregate: Aggregate, source: FieldType) -> str:
    if aggregate.kind in ("count", "distinct"):
        return "int64"
    if aggregate.kind in ("min", "max", "first", "last"):
        return {"int": "int64", "bool": "bool", "datetime": "datetime64[us]"}.get(source, "float64")
    return "float64"
