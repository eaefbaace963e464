"""Counters kept while serving: histograms per (version, role, asking day), appended to a topic each second.

Each record of the topic names the offsets `from` .. `to` (exclusive) of the prediction log that it counts. The ranges
join without gap or overlap: after a crash the uncovered tail of the log is counted again, so the sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from headrace.engines.events.port import EventLog
from headrace.kernel.times import DAY
from headrace.serving.loading import Counted
from headrace.serving.types import CellCounts, Entry, decode_record
from headrace.statistics.histograms import bin_counts

FORMAT = 1
BINNED_AT = 256
LATENCY_EDGES = np.array(
    [100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
     75_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000],
    dtype=np.float64,
)  # fmt: skip
"""Microseconds."""

Cell = tuple[int, str, int]
"""(version, role, asking day)."""


class _Range(msgspec.Struct, rename={"first": "from"}):
    first: int
    to: int


@dataclass(frozen=True, slots=True)
class Pending:
    """Counts of the log's offsets `first` .. `to` (exclusive) that are not yet in the topic."""

    first: int
    to: int
    dropped: int
    cells: dict[Cell, CellCounts]


class Edges:
    """The cuts on which the records of a version are counted; only requests are when there is no reference to count by."""

    def __init__(self, counted: Counted | None) -> None:
        reference = None if counted is None else counted.reference
        known = {} if reference is None else reference.features
        names = () if counted is None else counted.names
        self.features = [(i, name, np.array(known[name].edges)) for i, name in enumerate(names) if name in known]
        self.score = None if reference is None or reference.score is None else np.array(reference.score.edges)

    def count(self, entries: Sequence[Entry]) -> CellCounts:
        """The counts of records of the version, of one role and day."""
        records = [record for record, _ in entries]
        found = CellCounts(len(records), sum(record.error is not None for record in records))
        found.latency = bin_counts([record.latency_us for record in records], LATENCY_EDGES)
        if self.score is not None:
            found.score = bin_counts([record.score for record in records if record.score is not None], self.score)
        rows = [row for _, row in entries if row is not None]
        if self.features and rows:
            matrix = np.array(rows)
            found.features = {name: bin_counts(matrix[:, place], edges) for place, name, edges in self.features}
        return found


class Counters:
    """The counters of one service. `counted_of` gives what a version is counted by."""

    def __init__(self, events: EventLog, topic: str, log_topic: str, counted_of: Callable[[int], Counted | None]) -> None:
        self._events, self._topic, self._log_topic = events, topic, log_topic
        self._counted_of = counted_of
        self._edges: dict[int, Edges] = {}
        self._buffer: list[Entry] = []
        self._cells: dict[Cell, CellCounts] = {}
        self.dropped = 0
        events.create(topic)
        end = events.end(topic, 0)
        last = msgspec.json.decode(events.read(topic, 0, end - 1).values[0], type=_Range).to if end else 0
        self._next = self._counted = min(last, events.end(log_topic, 0))
        self._recount(events.end(log_topic, 0))

    def add(self, first: int, entries: Sequence[Entry]) -> None:
        """Count entries that were appended at `first`; what another process appended before them is counted too."""
        if first != self._next:
            self._recount(first)
        self._next = first + len(entries)
        self._buffer += entries
        if len(self._buffer) >= BINNED_AT:
            self._bin()

    def take(self) -> Pending | None:
        """What is counted and not yet in the topic; None when there is nothing. Hand it to `append`."""
        self._bin()
        if self._counted == self._next and not self.dropped:
            return None
        pending = Pending(self._counted, self._next, self.dropped, self._cells)
        self._counted, self._cells, self.dropped = self._next, {}, 0
        return pending

    def append(self, pending: Pending) -> None:
        """Append to the topic; the log must be durable up to `pending.to`."""
        cells = [
            {
                "version": version, "role": role, "day": day, "count": cell.count, "errors": cell.errors,
                "features": {name: counts.tolist() for name, counts in cell.features.items()},
                "score": cell.score.tolist(), "latency": cell.latency.tolist(),
            }
            for (version, role, day), cell in pending.cells.items()
        ]  # fmt: skip
        record = {"format": FORMAT, "from": pending.first, "to": pending.to, "cells": cells, "dropped": pending.dropped}
        self._events.append(self._topic, 0, [msgspec.json.encode(record)], sync=False)

    def _recount(self, end: int) -> None:
        while self._next < end:
            records = self._events.read(self._log_topic, 0, self._next, max_records=min(4096, end - self._next))
            for record in map(decode_record, records.values):
                self._buffer.append((record, np.array(record.features) if record.features else None))
            self._next = records.next
            self._bin()

    def _bin(self) -> None:
        groups: dict[Cell, list[Entry]] = {}
        for entry in self._buffer:
            record = entry[0]
            groups.setdefault((record.version, record.role, record.at // DAY), []).append(entry)
        self._buffer = []
        for cell, entries in groups.items():
            version = cell[0]
            if version not in self._edges:
                self._edges[version] = Edges(self._counted_of(version))
            self._cells.setdefault(cell, CellCounts()).add(self._edges[version].count(entries))
