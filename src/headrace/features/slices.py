"""The events of many requests' windows, put together for the reducers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Part = tuple[np.ndarray, int, int, int, int]
"""The events of one asking point's widest window: `words, size, low, end, first`: the events `low` to `end` of the `size`
stored ones of the key, whose words stand column by column in `words`; put together with those of others from `first` on."""


class Window(NamedTuple):
    """The events of one request's windows: those from each of `starts` to `end` of the `size` stored ones of the key, whose
    words stand column by column in `words`; `added`: the asking event comes after them."""

    words: np.ndarray
    size: int
    starts: Sequence[int]
    end: int
    added: bool


class Slices:
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

    def add(self, window: Window) -> None:
        """The next row."""
        words, size, starts, end, added = window
        first = self.stops[-1] if self.stops else 0
        low = min(starts)
        shift = first - low
        self.parts.append((words, size, low, end, first))
        self.starts += [start + shift for start in starts]
        stop = end + shift + added
        if added:
            self.places.append(stop - 1)
            self.added.append(len(self.stops))
        self.stops.append(stop)
        self.fewest = min(self.fewest, end + added - max(starts))

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

    def rows(self) -> np.ndarray:
        """int64 [total]: the row of each event."""
        return np.repeat(np.arange(len(self.stops)), np.diff(self.stops, prepend=0))
