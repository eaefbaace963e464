"""A re-keyed view that is built in a thread: what its topic does not have is read from the history, while the topic keeps what
comes. It is handed over to whoever applies the topic when it is near its end: nothing is missing or counted twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

from headrace.features.rekeyed_writer import Arrived, RekeyedWriter
from headrace.kernel.errors import Fenced
from headrace.kernel.log import LOG

NEAR = 1024
"""Records that whoever applies the topic may have to read again for the view."""
VAIN = 3
"""Times that the distance has not become less, after which the view is handed over: the topic then goes at its pace."""

_ONE_AT_A_TIME = threading.Lock()
"""Of the views that a process builds one has its history in memory."""


class BuildingView:
    """Until `ended` only the thread uses `writer`; then `error` says why it is not near, None when it is."""

    def __init__(self, writer: RekeyedWriter, read: Callable[[int], list[Arrived]], end: Callable[[], int]) -> None:
        """`read` gives the next records of the topic from an offset on, `end` its end."""
        self.writer = writer
        self.error: Exception | None = None
        self._read = read
        self._end = end
        self._thread = threading.Thread(target=self._run, name=f"build-{writer.layout.view.name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Build no more; what is built stays, and whoever applies the topic next goes on from there."""
        self.writer.stopped.set()

    def join(self) -> None:
        """Return when the thread has ended, after `stop`."""
        self._thread.join()

    def _run(self) -> None:
        name = self.writer.layout.view.name
        LOG.info("view.arriving", views=[name], partition=self.writer.partition)
        try:
            self._build()
        except Fenced as error:
            self.error = error
            LOG.info("view.abandoned", views=[name], partition=self.writer.partition, why=error.message)
        except Exception as error:  # noqa: BLE001  (the edge of the thread: raised again where the topic is applied)
            self.error = error
        else:
            LOG.info("view.handed_over", views=[name], partition=self.writer.partition)

    def _build(self) -> None:
        left: float = inf
        vain = 0
        while vain < VAIN and (records := self._read(self.writer.at.next)):
            with _ONE_AT_A_TIME:
                self.writer.take(records)
            before, left = left, self._end() - self.writer.at.next
            if left <= NEAR:
                return
            vain = vain + 1 if left >= before else 0
