"""The two clocks; nothing else in the package reads the time (a test proves it).

The *event clock* is what the system believes the time is; virtual in a replay. The *machine clock* is for leases,
time-outs and latency; always real. The event clock is a port, passed in the Context.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Protocol

from headrace.kernel.errors import Denied, InvalidInput
from headrace.kernel.times import format_time


class EventClock(Protocol):
    """What the system believes the time is."""

    virtual: bool

    def now(self) -> int:
        """Microseconds since the epoch."""
        ...

    def set(self, micros: int) -> None:
        """Advance a virtual clock. Denied on a real one, InvalidInput backwards."""
        ...


class MachineClock:
    """Real time of this machine."""

    def now(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds; for intervals."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


MACHINE = MachineClock()


class RealEventClock:
    virtual = False

    def now(self) -> int:
        return MACHINE.now()

    def set(self, micros: int) -> None:
        raise Denied(
            f"the clock of this system is real and cannot be set to {format_time(micros)}",
            hint="start it with `--clock virtual`",
        )


class VirtualEventClock:
    """A virtual clock shared by all processes of a system: eight bytes in a memory-mapped file.

    It goes on where it was when the system is started again. `start` is the first time of a new file.
    """

    virtual = True

    def __init__(self, path: Path, start: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size != 8:
                os.write(descriptor, struct.pack("<q", start))
            self._map = mmap.mmap(descriptor, 8)
        finally:
            os.close(descriptor)

    def now(self) -> int:
        return int(struct.unpack_from("<q", self._map)[0])

    def set(self, micros: int) -> None:
        now = self.now()
        if micros < now:
            raise InvalidInput(
                f"the clock stands at {format_time(now)} and cannot go back to {format_time(micros)}",
                hint="a virtual clock only advances; use a new data folder to start earlier",
            )
        struct.pack_into("<q", self._map, 0, micros)


class FixedEventClock:
    """An event clock in memory, for tests and for one-off computations at a given time."""

    virtual = True

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def set(self, micros: int) -> None:
        self._now = micros
