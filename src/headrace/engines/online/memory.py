"""The online store in memory: the fake of tests and of one-off computations."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping


class MemoryOnline:
    """A dictionary; writes are atomic and `get_many` is one snapshot, within this process."""

    atomic = True

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        with self._lock:
            return [self._values.get(key) for key in keys]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.write_if(changes, {})

    def write_if(self, changes: Mapping[bytes, bytes | None], expected: Mapping[bytes, bytes | None]) -> bool:
        with self._lock:
            if any(self._values.get(key) != value for key, value in expected.items()):
                return False
            for key, value in changes.items():
                if value is None:
                    self._values.pop(key, None)
                else:
                    self._values[key] = bytes(value)
            return True

    def scan(self, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            found = sorted(pair for pair in self._values.items() if pair[0].startswith(prefix) and pair[0] >= start)
        yield from found

    def close(self) -> None: ...
