"""Threads of the work process: each repeats a step for ever, survives its exceptions, and shows how it does."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

from headrace.kernel.clocks import MACHINE
from headrace.kernel.log import LOG

LONGEST_PAUSE_SECONDS = 30.0
QUIET_STEPS = 100
LOOK_SECONDS = 0.005
"""Between two looks whether a step is due."""


class Worker:
    """Repeats `step` until stopped. A step that returns a true value is followed by the next at once, else after `idle`
    seconds, or as soon as `due()`; after QUIET_STEPS without work, `drowsy` times as long. An exception is logged and the
    step retried after a pause that doubles: from 0.1 s up to 30 s."""

    def __init__(
        self, name: str, step: Callable[[], object], *, idle: float, drowsy: int = 1, due: Callable[[], bool] | None = None
    ) -> None:
        self.name = name
        self.error: str | None = None
        self._step = step
        self._idle = idle
        self._drowsy = drowsy
        self._due = due
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its step."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        if self._thread.ident is not None:  # (it was started)
            self._thread.join(timeout)

    def _run(self) -> None:
        failures = quiet = 0
        while not self._stop.is_set():
            try:
                busy = self._step()
            except Exception as error:  # noqa: BLE001  (the edge of the thread: recorded, shown and retried)
                failures += 1
                self.error = repr(error)
                LOG.error("worker failed", worker=self.name, failures=failures, traceback=traceback.format_exc())
                self._stop.wait(min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(failures - 1, 10)))
                continue
            if failures:
                LOG.info("worker recovered", worker=self.name, failures=failures)
                failures, self.error = 0, None
            quiet = 0 if busy else quiet + 1
            if not busy:
                self._rest(self._idle * (self._drowsy if quiet > QUIET_STEPS else 1))

    def _rest(self, seconds: float) -> None:
        if self._due is None:
            self._stop.wait(seconds)
            return
        until = MACHINE.monotonic() + seconds
        while not self._due() and MACHINE.monotonic() < until and not self._stop.wait(LOOK_SECONDS):
            pass
