"""Evaluating attributes for the requests of one moment: the newest known event of each key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.features.state import texts_of, unpack_states
from headrace.features.state_reader import StateReader, ViewValues
from headrace.features.types import Ask, AttributeView
from headrace.features.words import value_word
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs


class AttributeReader(StateReader[AttributeView]):
    """One view of attributes."""

    def __init__(self, view: AttributeView, specs: Specs, namespace: Namespace) -> None:
        super().__init__(view, specs, namespace)
        numbered = [(place, name) for place, name in enumerate(view.source_columns) if name not in view.text_columns]
        floats = [(place, name) for place, name in numbered if self.layout.field(name).type == "float"]
        self._floats = self._place(floats)
        self._numbers = self._place([pair for pair in numbered if pair not in floats])
        self._flags = {place: self._words[f"valid {name}"] for place, name in numbered if self._nullable(name)}

    def _place(self, columns: Sequence[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Where columns stand among the view's, and where their values among the words of an event."""
        words = [self._words[f"value {name}"] for _, name in columns]
        return np.array([place for place, _ in columns], np.int64), np.array(words, np.int64)

    def needs(self, *, is_event: bool) -> list[str]:
        """The fields of a request that are read."""
        return list(self.view.by)

    def read(
        self, asks: Sequence[Ask], at: np.ndarray, blobs: Sequence[Sequence[bytes | None]], is_event: Sequence[bool]
    ) -> ViewValues:
        """The view's columns at the asking times `at`, int64 [n], and the age of the events that they are of.

        `blobs` are the values of `keys`, for each key those of all requests; `is_event`: whether each request is an
        event of the view's stream.
        """
        events, row, _ = unpack_states(blobs[0], self._width)
        time = events[self._words["time"]]
        moment = at[row]
        known = (time <= moment) & (events[self._words["created"]] <= moment)
        if any(is_event):
            known &= ~self._not_before(asks, events, row, time == moment, is_event)
        seen = np.flatnonzero(known)
        newest = np.full(len(asks), -1, np.int64)
        newest[row[seen]] = seen
        ages = (at - time[newest]).tolist() if len(time) else []
        fresh = newest >= 0
        if self.view.ttl is not None and len(time):
            fresh &= at - time[newest] <= self.view.ttl
        values, texts = self._values(events, newest, fresh, blobs)
        return ViewValues(values, [ages[n] if place >= 0 else None for n, place in enumerate(newest.tolist())], texts)

    def _not_before(
        self, asks: Sequence[Ask], events: np.ndarray, row: np.ndarray, tied: np.ndarray, is_event: Sequence[bool]
    ) -> np.ndarray:
        """bool [events]: the asking event of each request, and those of its time that came after it."""
        own = [value_word(ask.own_id) if event else 0 for ask, event in zip(asks, is_event, strict=True)]
        mine = tied & (events[self._words["id"]] == np.array(own, np.int64)[row]) & np.array(is_event)[row]
        offset = np.full(len(asks), np.iinfo(np.int64).max)
        offset[row[mine]] = events[self._words["offset"], mine]
        later: np.ndarray = tied & (events[self._words["offset"]] >= offset[row])
        return later

    def _values(
        self, events: np.ndarray, newest: np.ndarray, fresh: np.ndarray, blobs: Sequence[Sequence[bytes | None]]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The columns of the events at `newest` where these are `fresh`, and the texts among them."""
        values = np.full((len(newest), len(self.view.columns)), np.nan)
        texts = {column: np.full(len(newest), None) for column in self.view.texts}
        if not events.shape[1]:
            return values, texts
        taken = events[:, newest]
        places, words = self._floats
        values[:, places] = taken[words].view(np.float64).T
        if len(self._numbers[0]):
            places, words = self._numbers
            values[:, places] = taken[words].T
        for place, word in self._flags.items():
            values[taken[word] == 0, place] = np.nan
        values[~fresh] = np.nan
        known = texts_of(blobs[1]) if texts else {}
        for column, name in zip(texts, self.view.text_sources, strict=True):
            there = np.flatnonzero(fresh & (taken[self._words[f"valid {name}"]] != 0 if self._nullable(name) else True))
            found = taken[self._words[f"value {name}"], there].tolist()
            texts[column][there] = [known[word] for word in found]
        return values, texts

    def _nullable(self, name: str) -> bool:
        return f"valid {name}" in self._words
