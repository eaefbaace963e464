"""Evaluating attributes for the requests of one moment: the newest known event of each key."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from struct import Struct

import numpy as np

from headrace.features.state import HEADER, texts_of
from headrace.features.state_reader import StateReader, ViewValues
from headrace.features.timeline import ALWAYS
from headrace.features.types import Ask, AttributeView
from headrace.features.words import value_word
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

FIRST = HEADER.size // 8
"""Where the words of the events begin among those of a state."""


class AttributeReader(StateReader[AttributeView]):
    """One view of attributes."""

    def __init__(self, view: AttributeView, specs: Specs, namespace: Namespace) -> None:
        super().__init__(view, specs, namespace)
        numbered = [(place, name) for place, name in enumerate(view.source_columns) if name not in view.text_columns]
        floats = [(place, name) for place, name in numbered if self.layout.field(name).type == "float"]
        self._floats = self._place(floats)
        self._numbers = self._place([pair for pair in numbered if pair not in floats])
        self._flags = {place: self._words[f"valid {name}"] for place, name in numbered if self._nullable(name)}
        self._only: slice | None = None
        if len(floats) == len(view.source_columns):
            self._only = slice(self._floats[1][0], self._floats[1][0] + len(floats))
        self._of_one = HEADER.size + 8 * self._width
        self._times = Struct(f"<{HEADER.size}xq{8 * (self._words['created'] - 1)}xq").unpack_from
        self._unknown = np.full(self._width, np.nan).tobytes()
        self._unseen = HEADER.pack(0, 0, 0) + np.full(self._width, ALWAYS).tobytes()

    def _place(self, columns: Sequence[tuple[int, str]]) -> tuple[list[int], list[int]]:
        """Where columns stand among the view's, and where their values among the words of an event."""
        return [place for place, _ in columns], [self._words[f"value {name}"] for _, name in columns]

    def needs(self, *, is_event: bool) -> list[str]:
        """The fields of a request that are read."""
        return list(self.view.by)

    def read(self, asks: Sequence[Ask], blobs: Sequence[Sequence[bytes | None]], is_event: Sequence[bool]) -> ViewValues:
        """The view's columns at the asking times, and the age of the events that they are of.

        `blobs` are the values of `keys`, for each key those of all requests; `is_event`: whether each request is an
        event of the view's stream.
        """
        if len(asks) == 1:
            event, age = self._event(blobs[0][0], asks[0], is_event[0])
            words, ages = np.frombuffer(event, np.int64).reshape(1, -1), [age]
            gone = [0] if event is self._unknown else []
        else:
            words, ages, gone = self._events(blobs[0], asks, is_event)
        if self._only is not None:
            return ViewValues(words[:, self._only].view(np.float64), ages, {})
        return ViewValues(self._values(words, gone), ages, self._texts(words, gone, blobs))

    def _events(
        self, blobs: Sequence[bytes | None], asks: Sequence[Ask], is_event: Sequence[bool]
    ) -> tuple[np.ndarray, list[int | None], list[int]]:
        """As `_event` of many: int64 [n, words], the ages, the rows without an event. States of one event, which is mostly
        seen, are looked at together."""
        states = [self._unseen if blob is None or len(blob) != self._of_one else blob for blob in blobs]
        words = np.frombuffer(b"".join(states), np.int64).reshape(len(states), -1)[:, FIRST:]
        at, time = np.array([ask.at for ask in asks], np.int64), words[:, 0]
        ages: list[int | None] = (at - time).tolist()
        seen = np.maximum(time, words[:, self._words["created"]]) <= at
        seen &= at - time <= (ALWAYS if self.view.ttl is None else self.view.ttl)
        if True in is_event:
            seen &= (time != at) | ~np.array(is_event)
        gone = []
        if not seen.all():
            words = words.copy()
            for row in np.flatnonzero(~seen).tolist():
                event, ages[row] = self._event(blobs[row], asks[row], is_event[row])
                words[row] = np.frombuffer(event, np.int64)
                if event is self._unknown:
                    gone.append(row)
        return words, ages, gone

    def _event(self, blob: bytes | None, ask: Ask, is_event: bool) -> tuple[bytes, int | None]:
        """The words of the newest event that a request sees, `_unknown` for none, and its age."""
        if blob is None:
            return self._unknown, None
        at, ttl = ask.at, self.view.ttl
        time, created = self._times(blob)
        if len(blob) == self._of_one and time <= at and created <= at and not (is_event and time == at):
            age: int = at - time
            return (blob[HEADER.size :] if ttl is None or age <= ttl else self._unknown), age
        words = memoryview(blob).cast("q")
        size = (len(words) - FIRST) // self._width
        newest = self._newest(words, size, ask, is_event)
        if newest < FIRST:
            return self._unknown, None
        age = at - words[newest]
        return (words[newest::size].tobytes() if ttl is None or age <= ttl else self._unknown), age

    def _newest(self, words: memoryview[int], size: int, ask: Ask, is_event: bool) -> int:
        """Where the time of the newest of the `size` events that was known stands, before FIRST for none."""
        at = ask.at
        place = bisect_right(words, at, FIRST, FIRST + size) - 1
        created, offset = self._words["created"] * size, self._words["offset"] * size
        before = ALWAYS
        if is_event and place >= FIRST and words[place] == at:
            before = self._own_offset(words, size, ask, place)
        while place >= FIRST and (words[place + created] > at or (words[place] == at and words[place + offset] >= before)):
            place -= 1
        return place

    def _own_offset(self, words: memoryview[int], size: int, ask: Ask, place: int) -> int:
        """The offset of the asking event among the events of its time, of which the last stands at `place`."""
        own, ids, offset = value_word(ask.own_id), self._words["id"] * size, self._words["offset"] * size
        while place >= FIRST and words[place] == ask.at:
            if words[place + ids] == own:
                return words[place + offset]
            place -= 1
        return ALWAYS

    def _values(self, events: np.ndarray, gone: Sequence[int]) -> np.ndarray:
        """The columns of the events, int64 [n, words]; nulls for the rows `gone`."""
        values = np.full((len(events), len(self.view.columns)), np.nan)
        places, words = self._floats
        values[:, places] = events[:, words].view(np.float64)
        places, words = self._numbers
        values[:, places] = events[:, words]
        for place, word in self._flags.items():
            values[events[:, word] == 0, place] = np.nan
        values[gone] = np.nan
        return values

    def _texts(self, events: np.ndarray, gone: Sequence[int], blobs: Sequence[Sequence[bytes | None]]) -> dict[str, np.ndarray]:
        """The columns of the events that are texts; None for the rows `gone`."""
        texts = {column: np.full(len(events), None) for column in self.view.texts}
        known = texts_of(blobs[1]) if texts else {}
        fresh = np.ones(len(events), bool)
        fresh[gone] = False
        for column, name in zip(texts, self.view.text_sources, strict=True):
            there = np.flatnonzero(fresh & (events[:, self._words[f"valid {name}"]] != 0 if self._nullable(name) else True))
            found = events[there, self._words[f"value {name}"]].tolist()
            texts[column][there] = [known[word] for word in found]
        return texts

    def _nullable(self, name: str) -> bool:
        return f"valid {name}" in self._words
