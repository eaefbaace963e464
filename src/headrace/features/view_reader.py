"""Evaluating one window view for one request: a single slice, by the reducers that backfill uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.data.types import Field, FieldType, StreamSpec
from headrace.features.frames import argument_value, predicate_inputs
from headrace.features.reducers import Column, Dense, reduce_column
from headrace.features.report_index import ReportIndex, reported_time
from headrace.features.state import HEADER, Applied, StateLayout, value_word
from headrace.features.types import Aggregate, WindowView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import key_bytes
from headrace.kernel.namespace import Namespace
from headrace.kernel.times import format_time

NAN = float("nan")
NO_WORDS = np.zeros(0, np.int64)
NO_KEY = b"-"
"""A key that no state has: that of a request with a null in its key."""


class _Slice:
    """The events of the widest window and, if it is added, the asking event; `keep` drops what `where` drops."""

    def __init__(self, words: np.ndarray, size: int, low: int, end: int, own: Mapping[str, Any] | None) -> None:
        self.words = words
        self.size = size
        self.low = low
        self.end = end
        self.own = own
        self.keep: np.ndarray | None = None

    def word(self, number: int) -> np.ndarray:
        first = number * self.size
        values = self.words[first + self.low : first + self.end]
        return values if self.keep is None else values[self.keep]


class ViewReader:
    """One view, with everything prepared that does not depend on the request."""

    def __init__(self, view: WindowView, stream: StreamSpec, namespace: Namespace) -> None:
        self.view = view
        self.layout = StateLayout(view, stream, namespace)
        self._lateness = stream.lateness
        self._id = stream.id
        self._words = self.layout.words
        self._edges = np.array([*(-width - view.delay for _, width in view.over), -view.delay, 0], np.int64)
        self._fields = {name: self.layout.field(name) for name in view.source_columns}
        self._inputs = {name: stream.field(name) for name in predicate_inputs(view)}
        self._ones = np.ones(len(view.over), np.int64)
        self._fills = [_fill(aggregate, self._fields) for _, aggregate in view.aggregates]
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

    def keys(self, request: Mapping[str, Any]) -> list[bytes]:
        """What to read from one snapshot of the online store: applied positions, state, report of the asking event."""
        values = tuple([request[name] for name in self.view.by])
        keys = [self.layout.applied_key, NO_KEY if None in values else self.layout.key(key_bytes(values))]
        if self._index is not None:
            on = request[self._index.on]
            keys.append(NO_KEY if on is None else self._index.key(on))
        return keys

    def positions(self, blob: bytes | None, at: int) -> dict[str, int]:
        """The applied offset of each stream. InvalidInput when the state no longer reaches back to `at`."""
        applied = Applied.unpack(blob)
        oldest = applied.watermark - self._lateness
        if at < oldest:
            raise InvalidInput(
                f"the asking time {format_time(at)} is before {format_time(oldest)}, the oldest that view "
                f"`{self.view.name}` can answer",
                hint="declare a longer `lateness` for the stream, or backfill",
            )
        if len(self._streams) == 1:
            return {self._streams[0]: applied.stream}
        return {self._streams[0]: applied.stream, self._streams[1]: applied.report}

    def read(
        self, blobs: list[bytes | None], request: Mapping[str, Any], at: int, *, is_event: bool
    ) -> tuple[list[float], int | None]:
        """The view's columns in order, from the blobs of `keys`, and the age of the key's newest event."""
        words = np.frombuffer(blobs[1], np.int64, offset=HEADER.size) if blobs[1] else NO_WORDS
        size = len(words) // len(self._words)
        *starts, end, newest = words[:size].searchsorted(self._edges + at, side="right").tolist()
        own: Mapping[str, Any] | None = None
        if is_event and not self.view.delay:
            place = self._own_place(words, size, end, request, at)
            if place is not None:
                end = place + self.view.own_event
            elif self.view.own_event and self._passes(request):
                own = request
        starts = [min(start, end) for start in starts]
        low = min(starts)
        part = _Slice(words, size, low, end, own)
        firsts = np.array([start - low for start in starts])
        if self.layout.keeps_filtered:
            keep = part.word(self._words["passes"]).astype(bool)
            firsts = np.concatenate([[0], np.cumsum(keep)])[firsts]
            part.keep = keep
        reported = reported_time(blobs[2]) if own is not None and self._index is not None else None
        return self._reduce(part, firsts, at, reported), at - int(words[newest - 1]) if newest else None

    def _own_place(self, words: np.ndarray, size: int, end: int, request: Mapping[str, Any], at: int) -> int | None:
        """The place of the asking event among the events of its time."""
        if not end or words[end - 1] != at:
            return None
        first = int(words[:size].searchsorted(at, side="left"))
        ids = self._words["id"] * size
        found = np.flatnonzero(words[ids + first : ids + end] == value_word(request[self._id]))
        return first + int(found[0]) if len(found) else None

    def _passes(self, request: Mapping[str, Any]) -> bool:
        if self.view.predicate is None:
            return True
        arguments = {name: argument_value(field.type, request[name]) for name, field in self._inputs.items()}
        return bool(np.broadcast_to(np.asarray(self.view.predicate(**arguments)), 1)[0])

    def _reduce(self, part: _Slice, starts: np.ndarray, at: int, reported: int | None) -> list[float]:
        """The columns, by window, then aggregate, over the events from each start to the end."""
        length = (part.end - part.low if part.keep is None else int(part.keep.sum())) + (part.own is not None)
        ends = self._ones * length
        counts: list[int] = (ends - starts).tolist()
        dense = {name: self._dense(part, name, field) for name, field in self._fields.items()}
        results: list[list[float]] = []
        for (_, aggregate), (least, empty) in zip(self.view.aggregates, self._fills, strict=True):
            numbers, values = counts, counts
            if aggregate.column is not None:
                reduced, number = reduce_column(aggregate.kind, dense[aggregate.column], starts, ends)
                numbers, values = number.tolist(), reduced.tolist()
            elif aggregate.kind == "share":
                known = self._known(part, at, reported)
                values = [k / n if n else 0 for k, n in zip((known[-1] - known[starts]).tolist(), counts, strict=True)]
            pairs = zip(values, numbers, strict=True)
            results.append([v if n >= least else NAN if n else empty for v, n in pairs])
        return [column[window] for window in range(len(counts)) for column in results]

    def _known(self, part: _Slice, at: int, reported: int | None) -> np.ndarray:
        """int64 [n + 1]: how many events before each have been reported by `at`."""
        times = part.word(self._words["reported"])
        known = np.zeros(len(times) + 1 + (part.own is not None), np.int64)
        np.cumsum(times <= at, out=known[1 : len(times) + 1])
        if part.own is not None:
            known[-1] = known[-2] + (reported is not None and reported <= at)
        return known

    def _dense(self, part: _Slice, name: str, field: Field) -> Dense:
        """A column of the slice with the asking event's value and the spare element of the reducers."""
        words = part.word(self._words[f"value {name}"])
        values = np.zeros(len(words) + 1 + (part.own is not None), np.float64 if field.type == "float" else np.int64)
        values[: len(words)] = words.view(values.dtype)
        value = None if part.own is None else part.own[name]
        if value is not None:
            values[-2] = value + 0.0 if field.type == "float" else value_word(value)
        if not field.nullable:
            return Dense(values, None)
        valid = np.zeros(len(values) - 1, bool)
        if field.type == "float":
            valid[: len(words)] = ~np.isnan(values[: len(words)])
        else:
            valid[: len(words)] = part.word(self._words[f"valid {name}"]).astype(bool)
        if part.own is not None:
            valid[-1] = value is not None
        return Dense.of(Column(values[:-1], valid))


def _dtype(aggregate: Aggregate, source: FieldType) -> str:
    if aggregate.kind in ("count", "distinct"):
        return "int64"
    if aggregate.kind in ("min", "max", "first", "last"):
        return {"int": "int64", "bool": "bool", "datetime": "datetime64[us]"}.get(source, "float64")
    return "float64"


def _fill(aggregate: Aggregate, fields: Mapping[str, Field]) -> tuple[int, float]:
    """The least number of values that define the aggregate, and its value over none (`reducers.fill_empty`)."""
    least = 2 if aggregate.kind == "std" else 1
    if aggregate.empty is None:
        return least, 0.0 if aggregate.kind in ("count", "distinct", "share", "sum") else NAN
    source = "float" if aggregate.column is None else fields[aggregate.column].type
    kind = _dtype(aggregate, source)
    return least, float(np.array(aggregate.empty).astype("int64" if kind.startswith("datetime") else kind))
