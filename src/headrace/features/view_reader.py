"""Evaluating one window view for the requests of one moment: a slice for each, by the reducers that backfill uses."""

from __future__ import annotations

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


class _State:
    """The events of the keys of n asking points: `words[row]` as `StateLayout.words` says, column by column."""

    def __init__(self, blobs: Sequence[bytes | None], words: int) -> None:
        self.words = [np.frombuffer(blob, np.int64, -1, HEADER.size) if blob else NO_WORDS for blob in blobs]
        self.sizes = [len(flat) // words for flat in self.words]

    def bounds(self, times: np.ndarray) -> np.ndarray:
        """For each row, the number of events up to each of its `times` [n, k]."""
        found = np.empty(times.shape, np.int64)
        for row, (flat, size) in enumerate(zip(self.words, self.sizes, strict=True)):
            found[row] = flat[:size].searchsorted(times[row], "right")
        return found


class _Slices:
    """The events of the widest window of each row, one row after another, each with its added asking event last.

    `stops` int64 [n] are the ends of the rows, `places` those of the added events, of the rows `added`.
    """

    def __init__(self, state: _State, lows: np.ndarray, ends: np.ndarray, added: list[int]) -> None:
        lengths = ends - lows
        lengths[added] += 1
        self.lengths = lengths
        self.stops = np.cumsum(lengths)
        self.firsts = self.stops - lengths
        self.total = int(self.stops[-1])
        self.added = added
        self.places = self.stops[added] - 1
        self._rows = list(
            zip(state.words, state.sizes, lows.tolist(), ends.tolist(), self.firsts.tolist(), strict=True)
        )  # fmt: skip

    def word(self, number: int, own: Sequence[int | float], dtype: type[np.generic] = np.int64) -> np.ndarray:
        """One word of all events and the spare element of the reducers, dtype [total + 1]; `own`: those of the added."""
        values = np.empty(self.total + 1, np.int64)
        values[-1] = 0
        for flat, size, low, end, first in self._rows:
            start = number * size
            values[first : first + end - low] = flat[start + low : start + end]
        typed = values.view(dtype)
        if self.added:
            typed[self.places] = own
        return typed


class ViewReader:
    """One view, with everything prepared that does not depend on the request."""

    def __init__(self, view: WindowView, stream: StreamSpec, namespace: Namespace) -> None:
        self.view = view
        self.layout = StateLayout(view, stream, namespace)
        self._lateness = stream.lateness
        self._words = self.layout.words
        self._edges = np.array([*(-width - view.delay for _, width in view.over), -view.delay, 0], np.int64)
        self._widest = int(np.argmin(self._edges[:-2]))
        self._fields = {name: self.layout.field(name) for name in view.source_columns}
        self._inputs = {name: stream.field(name).type for name in predicate_inputs(view)}
        self._streams = (stream.name,) if view.join is None else (stream.name, view.join.report)
        self._index = None
        if view.join is not None and view.own_event:
            self._index = ReportIndex(self.layout, view.join.on)

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

    def keys(self, request: Mapping[str, Any]) -> list[bytes]:
        """What to read from the online store: the state and, when they may add the asking event, its report."""
        values = tuple([request[name] for name in self.view.by])
        keys = [NO_KEY if None in values else self.layout.key(key_bytes(values))]
        if self._index is not None:
            on = request[self._index.on]
            keys.append(NO_KEY if on is None else self._index.key(on))
        return keys

    def applied(self, blob: bytes | None) -> tuple[dict[str, int], int]:
        """The applied offset of each stream, and the oldest asking time that the state still reaches."""
        applied = Applied.unpack(blob)
        return dict(zip(self._streams, (applied.stream, applied.report), strict=False)), applied.watermark - self._lateness

    def too_old(self, at: int, oldest: int) -> InvalidInput:
        return InvalidInput(
            f"the asking time {format_time(at)} is before {format_time(oldest)}, the oldest that view "
            f"`{self.view.name}` can answer",
            hint="declare a longer `lateness` for the stream, or backfill",
        )

    def read(
        self, asks: Sequence[Ask], at: np.ndarray, blobs: Sequence[Sequence[bytes | None]], *, events: Sequence[int]
    ) -> tuple[np.ndarray, list[int | None]]:
        """The view's columns, float64 [n, columns], NaN for null, and the age of the newest event of each key.

        `at` int64 [n] are the asking times, `blobs` the values of `keys`, `events` the rows that are events of the
        view's stream.
        """
        state = _State([found[0] for found in blobs], len(self._words))
        bounds = state.bounds(at[:, None] + self._edges)
        ages = [
            asked - int(flat[newest - 1]) if newest else None
            for asked, flat, newest in zip(at.tolist(), state.words, bounds[:, -1].tolist(), strict=True)
        ]
        ends = bounds[:, -2]
        added = [] if self.view.delay else self._place_own(state, ends, asks, events)
        starts = np.minimum(bounds[:, :-2], ends[:, None])
        lows = starts[:, self._widest]
        slices = _Slices(state, lows, ends, added)
        starts += (slices.firsts - lows)[:, None]
        values = self._reduce(slices, starts.ravel(), asks, at, blobs)
        return values.reshape(len(asks), -1), ages

    def _place_own(self, state: _State, ends: np.ndarray, asks: Sequence[Ask], events: Sequence[int]) -> list[int]:
        """Cut `ends` at the asking events among the stored ones; returns the rows whose asking event must be added."""
        missing = []
        for row in events:
            place = self._own_place(state.words[row], state.sizes[row], int(ends[row]), asks[row])
            if place is not None:
                ends[row] = place + self.view.own_event
            elif self.view.own_event:
                missing.append(row)
        return missing if self.view.predicate is None else self._passing(asks, missing)

    def _own_place(self, words: np.ndarray, size: int, end: int, ask: Ask) -> int | None:
        """The place of the asking event among the events of its time."""
        if not end or words[end - 1] != ask.at:
            return None
        first = int(words[:size].searchsorted(ask.at, side="left"))
        ids = self._words["id"] * size
        found = np.flatnonzero(words[ids + first : ids + end] == value_word(ask.own_id))
        return first + int(found[0]) if len(found) else None

    def _passing(self, asks: Sequence[Ask], rows: list[int]) -> list[int]:
        """Those of the rows whose request the view's `where` keeps."""
        assert self.view.predicate is not None
        kept: list[int] = []
        for group in same_nulls(self._inputs, [asks[row].request for row in rows]):
            members = [rows[place] for place in group]
            given = {n: request_array(k, [asks[row].request[n] for row in members]) for n, k in self._inputs.items()}
            passes = np.broadcast_to(np.asarray(self.view.predicate(**given)), len(members))
            kept += [row for row, passed in zip(members, passes.tolist(), strict=True) if passed]
        return sorted(kept)

    def _reduce(
        self, slices: _Slices, starts: np.ndarray, asks: Sequence[Ask], at: np.ndarray, blobs: Sequence[Sequence[bytes | None]]
    ) -> np.ndarray:
        """float64 [n * windows, aggregates]: each window from its start in the slices to the end of its row."""
        ends = slices.stops.repeat(len(self.view.over))
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
                known = self._known(slices, keep, at, [blobs[row][1:] for row in slices.added])
                found = (known[ends] - known[starts]) / np.maximum(events, 1)
            found, defined = fill_empty(aggregate, found, count)
            values[:, number] = found
            if defined is not None:
                values[~defined, number] = np.nan
        return values

    def _known(
        self, slices: _Slices, keep: np.ndarray | None, at: np.ndarray, own: Sequence[Sequence[bytes | None]]
    ) -> np.ndarray:
        """int64 [events + 1]: how many events before each have been reported by the asking time of their row. `own`: the
        report entry of each added event."""
        times = slices.word(self._words["reported"], [reported_time(found[0]) for found in own])
        known = times[:-1] <= at.repeat(slices.lengths)
        known = known if keep is None else known[keep]
        before = np.zeros(len(known) + 1, np.int64)
        np.cumsum(known, out=before[1:])
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
