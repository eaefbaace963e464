"""The blob port: immutable bytes addressed by their SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class BlobStore(Protocol):
    """`prefix` is the system's name. Every engine passes `engines/conformance/blobs.py`."""

    def put(self, prefix: str, content: bytes) -> str:
        """Store durably and return the digest (hex SHA-256); storing again changes nothing."""
        ...

    def get(self, prefix: str, digest: str) -> bytes:
        """The content, its digest verified. NotFound; CheckFailed when the bytes do not match."""
        ...

    def digests(self, prefix: str) -> Iterator[str]: ...
