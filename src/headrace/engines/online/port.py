"""The online store port: a map from key bytes to packed bytes, read in microseconds, rebuilt after power loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol


class OnlineStore(Protocol):
    """Every engine passes `engines/conformance/online.py`. Keys start with the system's name and are at most 500
    bytes; longer ones are hashed by the caller."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values in order, all from one snapshot where the engine has snapshots."""
        ...

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Store or (None) delete all at once; atomic where the engine has transactions (`atomic`)."""
        ...

    def write_if(self, changes: Mapping[bytes, bytes | None], expected: Mapping[bytes, bytes | None]) -> bool:
        """As `write`, but only if every key of `expected` has this value (None: is absent); False when nothing was written.
        The comparison and the writing are one, among all processes."""
        ...

    def scan(self, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key starts with `prefix` and is not below `start`, in key order."""
        ...

    @property
    def atomic(self) -> bool:
        """Whether `write` of several keys is one transaction and `get_many` one snapshot."""
        ...

    def close(self) -> None: ...
