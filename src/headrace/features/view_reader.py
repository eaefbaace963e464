"""Evaluating one window view for the requests of one moment: a slice for each, by the reducers that backfill uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.features.arguments import array_of_values, kept, predicate_dtypes
from headrace.features.long_states import with_tail
from headrace.features.reducers import Column, Dense, fill_empty, reduce_column
from headrace.features.report_index import ReportIndex, reported_time
from headrace.features.single_request import SingleRequest
from headrace.features.slices import Slices, Window
from headrace.features.state import HEADER, texts_of
from headrace.features.state_reader import NO_KEY, StateReader, ViewValues
from headrace.features.tiles import tile_runs
from headrace.features.types import Aggregate, Ask, WindowView
from headrace.features.words import value_word
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

NO_WORDS = np.zeros(0, np.int64)


class ViewReader(StateReader[WindowView]):
    """One view, with everything prepared that does not depend on the request."""

    def __init__(self, view: WindowView, specs: Specs, namespace: Namespace) -> None:
        super().__init__(view, specs, namespace)
        self._edges = np.array([*(-width - view.delay for _, width in view.over), -view.delay, 0], np.int64)
        self._fields = {name: self.layout.field(name) for name in view.source_columns}
        self._inputs = predicate_dtypes(view, self.layout.stream)
        self._is_text = [f"{view.name}_{name}_{view.over[0][0]}" in view.texts for name, _ in view.aggregates]
        self._enough = [self._least(aggregate) for _, aggregate in view.aggregates]
        self._indexes: list[ReportIndex] = []
        if view.join is not None and view.own_event:
            self._indexes = [ReportIndex(self.layout, view.join.on, partition) for partition in range(self.partitions)]
        self._single = SingleRequest(self.layout, view) if SingleRequest.covers(self.layout, view) else None

    def _least(self, aggregate: Aggregate) -> float:
        """With so many events in a window, what is reduced is the value of the aggregate."""
        if aggregate.kind in ("count", "share") and aggregate.empty is None:
            return 0
        nulls = aggregate.column is not None and self._fields[aggregate.column].nullable
        return math.inf if nulls or self.layout.keeps_filtered else 2 if aggregate.kind == "std" else 1

    def needs(self, *, is_event: bool) -> list[str]:
        """The fields of a request that are read; `is_event`: it is an event of the view's stream."""
        names = list(self.view.by) + [index.on for index in self._indexes[:1]]
        return [*names, *self._inputs, *self._fields] if is_event and self.view.own_event else names

    @property
    def key_count(self) -> int:
        return super().key_count + bool(self._indexes)

    def keys(self, requests: Sequence[Mapping[str, Any]]) -> list[list[bytes]]:
        """As of any view, and the reports of the asking events where those may be added."""
        keys = super().keys(requests)
        if self._indexes:
            on = self._indexes[0].on
            given = [(request[on], self._indexes[self.partition(request)]) for request in requests]
            keys.append([NO_KEY if value is None else index.key(value) for value, index in given])
        return keys

    def read(self, asks: Sequence[Ask], blobs: Sequence[Sequence[bytes | None]], is_event: Sequence[bool]) -> ViewValues:
        """The view's columns at the asking times.

        `blobs` are the values of `keys`, for each key those of all requests; `is_event`: whether each request is an
        event of the view's stream.
        """
        if len(asks) == 1 and self._single is not None:
            found = self._read_single(self._single, asks[0], [values[0] for values in blobs], is_event[0])
            if found is not None:
                return found
        at = np.array([ask.at for ask in asks], np.int64)
        slices = Slices()
        ages: list[int | None] = []
        adds = self._adds(asks, is_event)
        for row, (ask, edges) in enumerate(zip(asks, self._edges_at(at[:, None]), strict=True)):
            stored = self._stored(blobs[0][row], None if self._has_texts else blobs[1][row], edges)
            window, age = self._window(stored, edges, ask, is_event[row], adds[row])
            ages.append(age)
            slices.add(window)
        reports = () if not self._indexes else [blobs[-1][row] for row in slices.added]
        values, words = self._reduce(slices, asks, at, reports)
        texts = self._texts(words, asks, blobs[1]) if words else {}
        return ViewValues(values.reshape(len(asks), -1), ages, texts)

    def _read_single(self, single: SingleRequest, ask: Ask, blobs: Sequence[bytes | None], is_event: bool) -> ViewValues | None:
        adds = is_event and self.view.own_event and not self.view.delay
        edges = self._edges_at(ask.at)
        words = self._stored(blobs[0], None if self._has_texts else blobs[1], edges)
        window, age = self._window(words, edges, ask, is_event, adds)
        report = blobs[-1] if self._indexes else None
        values = single.read(window, ask.request, ask.at, report)
        return None if values is None else ViewValues(np.array([values], np.float64), (age,), {})

    def _edges_at(self, at: np.ndarray | int) -> np.ndarray:
        """Where the windows begin and end that are asked for at `at`, and that time itself."""
        edges: np.ndarray = self._edges + at
        if self.view.resolution:
            edges[..., :-2] = self.view.begin(edges[..., :-2])
        return edges

    def _stored(self, blob: bytes | None, tail: bytes | None, edges: np.ndarray) -> np.ndarray:
        """The words of the events in a state, column by column."""
        if not blob:
            return NO_WORDS
        words = np.frombuffer(blob, np.int64, -1, HEADER.size)
        if not tail:
            return words
        lately = np.frombuffer(tail, np.int64, -1, HEADER.size).reshape(self._width, -1)
        return with_tail(words.reshape(self._width, -1), lately, int(edges.min())).ravel()

    def _window(self, words: np.ndarray, edges: np.ndarray, ask: Ask, is_event: bool, adds: bool) -> tuple[Window, int | None]:
        """The stored events of a request's windows, and the age of the key's newest; `adds`: the asking event belongs to them
        also when it is not stored."""
        size = len(words) // self._width
        *bounds, end, newest = words[:size].searchsorted(edges, "right").tolist()
        age = ask.at - words.item(newest - 1) if newest else None
        if age == 0 and is_event and not self.view.delay:
            own = self._own_place(words, size, end, ask)
            if own is not None:
                end, adds = own + self.view.own_event, False
        return Window(words, size, [bound if bound < end else end for bound in bounds], end, adds), age

    def _texts(
        self, words: Mapping[int, tuple[np.ndarray, np.ndarray]], asks: Sequence[Ask], blobs: Sequence[bytes | None]
    ) -> dict[str, np.ndarray]:
        """The texts of aggregates, given by number as words and whether they are there, by name of the column."""
        known = texts_of(blobs)
        for ask in asks:
            own = [ask.request.get(column) for column in self.view.text_sources]
            known |= {value_word(text): text for text in own if text is not None}
        found: dict[str, np.ndarray] = {}
        for number, (given, defined) in words.items():
            texts = [known[word] if there else None for word, there in zip(given.tolist(), defined.tolist(), strict=True)]
            column = np.empty(len(texts), object)
            column[:] = texts
            windows, names = len(self.view.over), self.view.columns[number :: len(self.view.aggregates)]
            found |= {name: column[window::windows] for window, name in enumerate(names)}
        return found

    def _adds(self, asks: Sequence[Ask], is_event: Sequence[bool]) -> Sequence[bool]:
        """The requests whose event is in their windows, also when it is not stored."""
        if self.view.delay or not self.view.own_event:
            return [False] * len(asks)
        if self.view.predicate is None:
            return is_event
        adds = [False] * len(asks)
        rows = [row for row, event in enumerate(is_event) if event]
        if rows:
            given = {n: array_of_values(n, [asks[row].request[n] for row in rows], d) for n, d in self._inputs.items()}
            for row, passed in zip(rows, kept(self.view.predicate, given, len(rows)).tolist(), strict=True):
                adds[row] = passed
        return adds

    def _own_place(self, words: np.ndarray, size: int, end: int, ask: Ask) -> int | None:
        """The place of the asking event among the events of its time, which come before `end`."""
        first = int(words[:size].searchsorted(ask.at, side="left"))
        ids = self._words["id"] * size
        found = np.flatnonzero(words[ids + first : ids + end] == value_word(ask.own_id))
        return first + int(found[0]) if len(found) else None

    def _reduce(
        self, slices: Slices, asks: Sequence[Ask], at: np.ndarray, reports: Sequence[bytes | None]
    ) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
        """float64 [n * windows, aggregates]: each window from its start in the slices to the end of its row; by the number
        of an aggregate that is a text its words and whether they are there. `reports` are the report entries of the added
        events."""
        starts, ends = np.array(slices.starts), np.array(slices.stops).repeat(len(self.view.over))
        keep: np.ndarray | None = None
        if self.layout.keeps_filtered:
            keep = slices.word(self._words["passes"], [1] * len(slices.added))[:-1].astype(bool)
            before = np.concatenate([[0], np.cumsum(keep)])
            starts, ends = before[starts], before[ends]
        requests = [asks[row].request for row in slices.added]
        runs = self._runs(slices, keep, at) if self.view.resolution else None
        dense = {n: self._dense(slices, keep, n, requests, runs) for n in self._fields}
        events = ends - starts
        values = np.empty((len(starts), len(self.view.aggregates)))
        texts = {}
        for number, (_, aggregate) in enumerate(self.view.aggregates):
            found = count = events
            if aggregate.column is not None:
                found, count = reduce_column(aggregate.kind, dense[aggregate.column], starts, ends)
            elif aggregate.kind == "share":
                known = self._known(slices, keep, at, reports)
                found = (known[ends] - known[starts]) / np.maximum(events, 1)
            if self._is_text[number]:
                texts[number] = found, count > 0
                found = np.full(len(found), np.nan)
            else:
                defined = None
                if slices.fewest < self._enough[number]:
                    found, defined = fill_empty(aggregate, found, count)
                if defined is not None:
                    found = np.where(defined, found, np.nan)
            values[:, number] = found
        return values, texts

    def _known(self, slices: Slices, keep: np.ndarray | None, at: np.ndarray, reports: Sequence[bytes | None]) -> np.ndarray:
        """int64 [events + 1]: how many events before each have been reported by the asking time of their row."""
        times = slices.word(self._words["reported"], [reported_time(blob) for blob in reports])[:-1]
        known = times <= at[slices.rows()]
        known = known if keep is None else known[keep]
        before = np.zeros(len(known) + 1, np.int64)
        np.add.accumulate(known, dtype=np.int64, out=before[1:])
        return before

    def _runs(self, slices: Slices, keep: np.ndarray | None, at: np.ndarray) -> np.ndarray:
        """int64 [events]: which are of one tile."""
        times = slices.word(self._words["time"], at[slices.added].tolist())[:-1]
        kept = slice(None) if keep is None else keep
        return tile_runs(slices.rows()[kept], times[kept], self.view.resolution)

    def _dense(
        self, slices: Slices, keep: np.ndarray | None, name: str, requests: Sequence[Mapping[str, Any]],
        runs: np.ndarray | None,
    ) -> Dense:  # fmt: skip
        """A column of the slices; `requests` are those whose event is added."""
        field = self._fields[name]
        number = self._words[f"value {name}"]
        given = [request[name] for request in requests]
        if field.type == "float":
            own = [np.nan if value is None else value + 0.0 for value in given]
            values = slices.word(number, own, np.float64)
        else:
            values = slices.word(number, [value_word(value) for value in given])
            values = values.astype(bool) if field.type == "bool" else values
        if not field.nullable and keep is None and runs is None:
            return Dense(values, None)
        values = values[:-1]
        valid: np.ndarray | None = None
        if field.nullable and field.type == "float":
            valid = ~np.isnan(values)
        elif field.nullable:
            valid = slices.word(self._words[f"valid {name}"], [value is not None for value in given])[:-1].astype(bool)
        column = Column(values, valid)
        return Dense.of(column if keep is None else column.take(keep), runs)
