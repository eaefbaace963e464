"""A lock that ends with its process: one process of a role per system and data folder."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.engines.file_locks import try_lock
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict


class ProcessLock:
    """Held until closed or the process is gone, however it ended."""

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        """Take the lock within `wait` seconds. Conflict names the process that has it."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("a+")
        deadline = MACHINE.monotonic() + wait
        while not try_lock(self._file.fileno()):
            if MACHINE.monotonic() >= deadline:
                self._file.seek(0)
                holder = self._file.read().strip()
                self._file.close()
                raise Conflict(
                    f"`{path.parent.name}` is already running on this data folder, as process {holder}",
                    hint=f"stop it (`kill {holder}`), or use another --data",
                )
            MACHINE.sleep(0.02)
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
