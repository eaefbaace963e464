"""Exclusive locks of files (flock(2)) between processes, and between threads that opened the file each for itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Lock until the descriptor is closed, however that comes about; False when another holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Lock the file, made when missing, inside the block. Without `wait` the block is told whether it has the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield wait or try_lock(descriptor)
    finally:
        os.close(descriptor)
