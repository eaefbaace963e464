"""The newest event of a key that was known at a moment: what attributes and the point-in-time join look for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.features.last_at_most import last_at_most
from headrace.features.sorting import runs, stable_argsort
from headrace.features.timeline import KeyedTimes


@dataclass(frozen=True, slots=True)
class Candidates:
    """`index` int64 [n] is the order (key, time, created, place) of the events; `found` and `first` int64 [m] are places in
    it for each asking point: its key's newest event by then, before `first` where there is none, and its key's first."""

    index: np.ndarray
    found: np.ndarray
    first: np.ndarray

    def rows(self, found: np.ndarray) -> np.ndarray:
        """The events at the places `found`, -1 for none."""
        if not len(self.index):
            return np.full(len(found), -1, np.int64)
        return np.where(found < self.first, -1, self.index[np.maximum(found, 0)])


def candidates(key: np.ndarray, time: np.ndarray, created: np.ndarray | None, asked: np.ndarray, at: np.ndarray) -> Candidates:
    """Codes of keys, times and creations of events, all int64 [n], and of asking points [m]; a code -1 has no events."""
    highest = max(int(key.max(initial=0)), int(asked.max(initial=0)))
    times = KeyedTimes(key, time, highest)
    index, mine = _order(times.codes, created)
    sorting = stable_argsort(times.of(np.maximum(asked, 0), at))
    found = np.empty(len(asked), np.int64)
    found[sorting] = np.searchsorted(mine, times.of(asked[sorting], at[sorting]), side="right") - 1
    if highest < len(asked):
        first = np.searchsorted(mine, times.before_all(np.arange(highest + 1)), side="left")[asked]
    else:
        first = np.empty(len(asked), np.int64)
        first[sorting] = np.searchsorted(mine, times.before_all(asked[sorting]), side="left")
    first[asked < 0] = len(mine)
    return Candidates(index, found, first)


def _order(composite: np.ndarray, created: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The order by (composite, created, place), and `composite` in it."""
    index = stable_argsort(composite)
    mine = composite[index]
    if created is None:
        return index, mine
    rows, group = runs(mine[1:] == mine[:-1])
    if len(rows):
        places = index[rows]
        index[rows] = places[np.lexsort((created[places], group))]
    return index, mine


@dataclass(frozen=True, slots=True)
class KnownEvents:
    """Events in order of offset, int64 [n]: codes of keys, times, creations, offsets, arrivals (`arrivals.py`)."""

    key: np.ndarray
    time: np.ndarray
    created: np.ndarray
    offset: np.ndarray
    arrival: np.ndarray


@dataclass(frozen=True, slots=True)
class Moments:
    """Asking points, int64 [m]: codes of keys, times, positions and the offset of the asking event, -1 when it is no event
    of the stream or not in the log at the position."""

    key: np.ndarray
    at: np.ndarray
    position: np.ndarray
    own: np.ndarray


def newest_known(events: KnownEvents, asked: Moments) -> np.ndarray:
    """The row of the newest event by (time, created, offset) with time and created <= at, arrival <= position, and before
    the asking event in the order (time, offset); -1 for none. int64 [m]."""
    search = candidates(events.key, events.time, events.created, asked.key, asked.at)
    columns = (events.time, events.created, events.offset, events.arrival)
    time, created, offset, arrival = (column[search.index] for column in columns)
    found = np.where(search.found >= search.first, search.found, -1)
    while True:
        known = last_at_most(created, found, search.first, asked.at)
        known = last_at_most(arrival, known, search.first, asked.position)
        place = np.maximum(known, 0)
        if len(time):
            known = known - ((known >= 0) & (asked.own >= 0) & (time[place] == asked.at) & (offset[place] >= asked.own))
            known = np.where(known >= search.first, known, -1)
        if np.array_equal(known, found):
            return search.rows(np.where(known < 0, search.first - 1, known))
        found = known
