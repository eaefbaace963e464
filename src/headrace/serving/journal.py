"""What is kept of every prediction: its record in the log, then its place in the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from headrace.serving.counters import Counters
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.types import PredictionRecord

Entry = tuple[PredictionRecord, np.ndarray | None]
"""A record and its feature row, float64 [F]; None when the features could not be read."""


class Journal:
    """The log and the counters of one service, written by this process alone."""

    def __init__(self, log: PredictionLog, counters: Counters) -> None:
        self.log = log
        self.counters = counters
        self._settling = asyncio.Lock()

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the records as one batch; when this returns they survive SIGKILL."""
        if not entries:
            return
        first = self.log.append([record for record, _ in entries])
        self.counters.add(first, entries)

    async def settle(self) -> None:
        """Make the log durable (fsync in a thread), then append the counters of what is durable."""
        async with self._settling:
            pending = self.counters.take()
            if pending is None:
                return
            await asyncio.get_running_loop().run_in_executor(None, self.log.sync)
            self.counters.append(pending)
