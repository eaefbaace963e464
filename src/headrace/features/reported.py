"""Which events of a window have been reported, as of an asking point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.features.reduceat import chunks, expand


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of events: those of event i are `time[first[i] : first[i] + count[i]]`, likewise `offset`."""

    first: np.ndarray
    count: np.ndarray
    time: np.ndarray
    offset: np.ndarray

    def take(self, index: np.ndarray) -> Reports:
        return Reports(self.first[index], self.count[index], self.time, self.offset)

    def known(self, index: np.ndarray, at: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Whether any report of event `index[i]` has time <= at[i] and offset <= position[i]."""
        found = np.zeros(len(index), bool)
        first, count = self.first[index], self.count[index]
        for nth in range(int(count.max(initial=0))):
            rows = np.flatnonzero(count > nth)
            entry = first[rows] + nth
            found[rows] |= (self.time[entry] <= at[rows]) & (self.offset[entry] <= position[rows])
        return found


class ReportedEvents:
    """The events with reports, ready to be counted in slices."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._index = np.flatnonzero(reports.count)
        first = reports.first[self._index]
        self._time, self._offset = reports.time[first], reports.offset[first]
        self._several = reports.count[self._index] > 1
        self._before = np.zeros(len(reports.count) + 1, np.int64)
        np.cumsum(reports.count > 0, out=self._before[1:])

    def counts(self, at: np.ndarray, position: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The number of events of each slice that are reported as of its asking time and report position, int64."""
        first = self._before[starts]
        lengths = self._before[ends] - first
        result = np.zeros(len(starts), np.int64)
        rows = np.flatnonzero(lengths)
        for run in chunks(lengths[rows]):
            part = rows[run]
            size = lengths[part]
            known = self._known(expand(first[part], size), np.repeat(at[part], size), np.repeat(position[part], size))
            result[part] = np.add.reduceat(known.astype(np.int64), np.cumsum(size) - size)
        return result

    def _known(self, index: np.ndarray, at: np.ndarray, position: np.ndarray) -> np.ndarray:
        """As `Reports.known`, of the events with reports at the places `index`; most have one."""
        known: np.ndarray = self._time[index] <= at
        known &= self._offset[index] <= position
        rows = np.flatnonzero(self._several[index] & ~known)
        if len(rows):
            known[rows] = self._reports.known(self._index[index[rows]], at[rows], position[rows])
        return known
