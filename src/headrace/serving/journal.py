"""What is kept of every prediction: its event where requests are events, its record in the log, its place in the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.data.appending import RowAppender
from headrace.serving.counters import Counters
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.types import Entry


class Journal:
    """The log and the counters of one service, written by this process alone. `requests` is the stream that its answered
    requests are appended to, if any."""

    def __init__(self, log: PredictionLog, counters: Counters, requests: RowAppender | None = None) -> None:
        self.log = log
        self.counters = counters
        self._requests = requests
        self._settling = asyncio.Lock()

    def write(self, entries: Sequence[Entry]) -> None:
        """Write the records as one batch; when this returns they survive SIGKILL.

        The events come first: killed between the two, nothing was answered, and of the retry's event and this one the
        stream keeps one by its id. The other way round the retry would find its answer and the event would be missing.
        """
        if not entries:
            return
        if self._requests is not None:
            self._requests.append([r.request for r, _ in entries if r.request and r.error is None and r.role != "shadow"])
        first = self.log.append([record for record, _ in entries])
        self.counters.add(first, entries)

    async def settle(self) -> None:
        """Make the log durable (fsync in a thread), then append the counters of what is durable."""
        async with self._settling:
            pending = self.counters.take()
            if pending is None:
                return
            await asyncio.get_running_loop().run_in_executor(None, self._sync)
            self.counters.append(pending)

    def _sync(self) -> None:
        if self._requests is not None:
            self._requests.sync()
        self.log.sync()
