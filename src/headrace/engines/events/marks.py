"""One number of a partition in a file beside its segments: the first kept offset, or up to where batches are durable."""

from __future__ import annotations

import os
import struct
import weakref
from pathlib import Path

from crc32c import crc32c

from headrace.kernel.errors import IncompatibleFormat

KEPT = "kept"
"""The first kept offset; segments below it are being deleted. Sorts after the segments: a backup copies it last, so that
what vanished meanwhile is known to have been dropped."""
SYNCED = ".synced"
"""Every batch below this offset was durable and acknowledged. Hidden: a backup leaves it out, since it runs ahead of the
copies of the segments."""
_MAGIC, _FORMAT = b"HRLK", 1
_CONTENT = struct.Struct("<4sHHq")
_CHECKSUM = struct.Struct("<I")
_SIZE = _CONTENT.size + _CHECKSUM.size


class Mark:
    """A number that only grows, shared by processes; 0 as long as nothing was written. One write within one sector."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.close = weakref.finalize(self, os.close, self._fd)

    def value(self) -> int:
        """A damaged mark is 0: it protects nothing, and is written again by the next."""
        content = os.pread(self._fd, _SIZE, 0)
        if len(content) < _SIZE:
            return 0
        magic, found, _, number = _CONTENT.unpack_from(content)
        (checksum,) = _CHECKSUM.unpack_from(content, _CONTENT.size)
        if magic != _MAGIC or checksum != crc32c(content[: _CONTENT.size]):
            return 0
        if found > _FORMAT:
            raise IncompatibleFormat.newer(f"`{self._path}`", found, _FORMAT)
        return int(number)

    def grow(self, number: int, *, durable: bool) -> None:
        """Set it to `number` unless it is there already. Of two processes at once the lower may win for a moment."""
        if number > self.value():
            content = _CONTENT.pack(_MAGIC, _FORMAT, 0, number)
            os.pwrite(self._fd, content + _CHECKSUM.pack(crc32c(content)), 0)
        if durable:
            os.fdatasync(self._fd)
