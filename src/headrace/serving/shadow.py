"""Shadows: versions that score what was answered, after the reply, from the same features; clients never notice."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import msgspec

from headrace.features.types import FeatureRow
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError
from headrace.kernel.log import LOG
from headrace.serving.journal import Journal
from headrace.serving.loading import LoadedVersion
from headrace.serving.types import Entry, PredictionRecord

QUEUE = 4096
AT_ONCE = 32
PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Shadowed:
    """An answered prediction that `version` is to score."""

    version: LoadedVersion
    record: PredictionRecord
    row: FeatureRow


class Shadows:
    """A bounded queue of one service; what does not fit is dropped and counted."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._queue: deque[Shadowed] = deque()
        self._scheduled = False

    def offer(self, shadowed: Shadowed) -> None:
        if len(self._queue) >= QUEUE:
            self._journal.counters.dropped += 1
            return
        self._queue.append(shadowed)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._run)

    def _run(self) -> None:
        self._scheduled = False
        self.work()
        if self._queue:
            self._scheduled = True
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._run)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def work(self) -> None:
        """Score the oldest few and write their records; a pause follows, in which requests are answered."""
        taken = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
        groups: dict[LoadedVersion, list[Shadowed]] = {}
        for shadowed in taken:
            groups.setdefault(shadowed.version, []).append(shadowed)
        entries: list[Entry] = []
        for version, group in groups.items():
            started = MACHINE.monotonic()
            scored = version.score([s.row.values for s in group])
            latency = round((MACHINE.monotonic() - started) * 1e6 / len(group))
            for shadowed, (score, error) in zip(group, scored, strict=True):
                record = msgspec.structs.replace(
                    shadowed.record, version=version.number, role="shadow", score=score, error=error, latency_us=latency,
                    features=shadowed.row.values.tolist(), positions=shadowed.row.positions,
                )  # fmt: skip
                entries.append((record, shadowed.row.values))
        try:
            self._journal.write(entries)
        except (HeadraceError, OSError) as error:
            self._journal.counters.dropped += len(entries)
            LOG.error("shadow predictions were not logged", error=repr(error), dropped=len(entries))
