"""Evaluating attributes for the requests of one moment: the newest known event of each key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.features.state import texts_of, unpack_states
from headrace.features.state_reader import StateReader, ViewValues
from headrace.features.types import Ask, AttributeView
from headrace.features.words import value_word


class AttributeReader(StateReader[AttributeView]):
    """One view of attributes."""

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
        texts: dict[str, np.ndarray] = {}
        known = texts_of(blobs[1]) if self.view.text_sources else {}
        rows = np.flatnonzero(fresh)
        for number, (name, column) in enumerate(zip(self.view.source_columns, self.view.columns, strict=True)):
            words = events[self._words[f"value {name}"], newest[rows]]
            there = np.ones(len(rows), bool)
            if f"valid {name}" in self._words:
                there = events[self._words[f"valid {name}"], newest[rows]].astype(bool)
            if name in self.view.text_columns:
                texts[column] = np.full(len(newest), None)
                texts[column][rows[there]] = [known[word] for word in words[there].tolist()]
            else:
                found = words.view(np.float64) if self.layout.field(name).type == "float" else words
                values[rows[there], number] = found[there]
        return values, texts
