"""Claims: files locked by the process that works on something; the kernel lets go when the process dies.

A lease would keep the successor of a killed process waiting until it runs out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.engines.file_locks import try_lock
from headrace.kernel.errors import Conflict
from headrace.kernel.ids import content_hash


class Claim:
    """An exclusive lock (flock(2)) on a file of its own; also between threads of one process."""

    def __init__(self, folder: Path, *name: str) -> None:
        self._path = folder / f"{content_hash(list(name))[:32]}.lock"
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it; False when another holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not try_lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go; nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def held(self, otherwise: str) -> Iterator[None]:
        """Hold it inside the block. Conflict, which says `otherwise`, while another does."""
        if not self.take():
            raise Conflict(otherwise, hint="wait until it is done")
        try:
            yield
        finally:
            self.release()

    def free(self) -> bool:
        """Whether nobody holds it now."""
        if not self.take():
            return False
        self.release()
        return True
