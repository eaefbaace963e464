"""Events of one view in the order (key, time, offset), ready to be searched, and the points at which they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headrace.features.reducers import Column
from headrace.features.reported import Reports
from headrace.features.sorting import blocks, stable_argsort

ALWAYS = np.iinfo(np.int64).max
"""A position that includes everything, and the time of a report that has not arrived."""

TOGETHER = 4096
"""Times that are searched at once: between the least and the largest of them are few events."""


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one view, with its columns; all arrays [n]. `key` are codes from 0 on. `offset` breaks ties of equal times,
    `arrival` decides what a position sees: the offset too, unless the events of a key lie in several partitions (`arrived`).

    `columns` and `reports` may have more rows than n: the asking events that windows add (`Asked.added`)."""

    key: np.ndarray
    time: np.ndarray
    offset: np.ndarray
    columns: dict[str, Column]
    reports: Reports | None = None
    arrived: np.ndarray | None = None

    @property
    def arrival(self) -> np.ndarray:
        return self.offset if self.arrived is None else self.arrived

    def take(self, index: np.ndarray) -> Events:
        rest = np.concatenate([index, np.arange(len(self.key), self.rows)]) if self.rows > len(self.key) else index
        columns = {name: column.take(rest) for name, column in self.columns.items()}
        reports = None if self.reports is None else self.reports.take(rest)
        arrived = None if self.arrived is None else self.arrived[index]
        return Events(self.key[index], self.time[index], self.offset[index], columns, reports, arrived)

    @property
    def rows(self) -> int:
        if self.reports is not None:
            return len(self.reports.first)
        return max((len(column.values) for column in self.columns.values()), default=len(self.key))


@dataclass(frozen=True, slots=True)
class Asked:
    """Asking points; all arrays int64 [m]. `key`: code, -1 for one that no event has. `position`: arrivals up to it are
    seen. `own`: offset of the asking event when it is in the log at that position, else -1. `reported`: position in the
    report stream. `added`: row of `Events.columns` that is added as the last event of every window, -1 for none."""

    key: np.ndarray
    time: np.ndarray
    position: np.ndarray
    own: np.ndarray
    reported: np.ndarray
    added: np.ndarray

    def take(self, index: np.ndarray | slice) -> Asked:
        return Asked(*(getattr(self, name)[index] for name in self.__slots__))


class KeyedTimes:
    """(key, time) as one int64 of the same order, for the keys and times of some events: where the product of both ranges
    exceeds 62 bits, times become ranks among the times of the events."""

    def __init__(self, key: np.ndarray, time: np.ndarray, highest: int) -> None:
        self._ranks: np.ndarray | None = None
        self._first = int(time.min()) if len(time) else 0
        self._span = (int(time.max()) if len(time) else 0) - self._first + 2
        if self._span * (highest + 2) >= 1 << 62:
            self._ranks = np.unique(time)
            self._span = len(self._ranks) + 1
        self.codes = self.of(key, time)

    def of(self, key: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Codes; times outside of the events' range are clipped to its edges."""
        codes = np.empty(len(time), np.int64)
        for block in blocks(len(time)):
            rank = codes[block]
            if self._ranks is not None:
                rank[:] = np.searchsorted(self._ranks, time[block], side="right")
            else:
                np.subtract(time[block], self._first - 1, out=rank)
                np.clip(rank, 0, self._span - 1, out=rank)
            rank += key[block] * self._span
        return codes

    def before_all(self, key: np.ndarray) -> np.ndarray:
        """Codes that come before every event of their key and after every event of the key before."""
        return key * self._span


def order(key: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The stable order by (key, time). Where the times are in order, as most arrivals are, only the keys are sorted."""
    key = key - (int(key.min()) if len(key) else 0)
    highest = int(key.max(initial=0))
    if not bool(np.all(time[1:] >= time[:-1])):
        return stable_argsort(KeyedTimes(key, time, highest).codes)
    if highest < 1 << 16:
        return np.argsort(key.astype(np.uint16), kind="stable")
    return stable_argsort(key)


class Timeline:
    """Events ordered by (key, time, offset), ready to be searched. `events` come in order of offset."""

    def __init__(self, events: Events) -> None:
        self.index = order(events.key, events.time)
        self.events = events.take(self.index)
        self._times = KeyedTimes(self.events.key, self.events.time, int(events.key.max(initial=0)))

    def after(self, key: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The index of the key's first event with a later time. Those near each other in the order are best asked together:
        then little is searched."""
        codes, asked = self._times.codes, self._times.of(key, time)
        if len(asked) <= TOGETHER:
            return np.searchsorted(codes, asked, side="right")
        found = np.empty(len(asked), np.int64)
        for start in range(0, len(asked), TOGETHER):
            part = asked[start : start + TOGETHER]
            low, high = np.searchsorted(codes, (part.min(), part.max()), side="right")
            np.add(np.searchsorted(codes[low:high], part, side="right"), low, out=found[start : start + TOGETHER])
        return found

    @cached_property
    def late(self) -> np.ndarray:
        """bool [codes]: keys of which an event arrived after one of a later time."""
        key, offset = self.events.key, self.events.arrival
        marks = np.zeros(int(key.max(initial=0)) + 1, bool)
        marks[key[1:][(key[1:] == key[:-1]) & (offset[1:] < offset[:-1])]] = True
        return marks
