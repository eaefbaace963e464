"""One segment file: whole batches one after another; its name is the offset of its first record."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headrace.engines.durable_files import write_synced
from headrace.engines.events.framing import HEADER_SIZE, BatchHeader, decode_into, parse_header
from headrace.engines.events.port import Records
from headrace.kernel.errors import CheckFailed, EngineUnreachable
from headrace.kernel.log import LOG

SUFFIX = ".segment"
TORN = ".torn"
"""What was cut off a segment, in a file beside it that is named by the offset at which it stood."""
_CHUNK = 1 << 20
_SPARSE = 1 << 14


class SegmentFile:
    """`position` and `next` are the end of the whole batches known so far: bytes and offset.

    A sparse index (one entry each 16 KiB) leads from an offset to a batch near it; that of a sealed segment is kept
    beside it in `BASE.index`. A sealed segment is read-only for its owner, which every process sees by the same `fstat`
    that tells it the size: only then another segment can follow.
    """

    def __init__(self, folder: Path, base: int, *, create: bool = False) -> None:
        self.base = base
        self.path = folder / f"{base:020d}{SUFFIX}"
        self.position = 0
        self.next = base
        self._synced = 0
        self._offsets = [base]
        self._positions = [0]
        self._recent = (base, 0)
        self.sealed = False
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT if create else os.O_RDWR, 0o600)
        except PermissionError:
            self._fd = os.open(self.path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._fd)  # a dropped one may still be read by another thread
        parse_header(os.pread(self._fd, HEADER_SIZE, 0))  # a newer format is refused before anything is read or cut

    @property
    def size(self) -> int:
        """Bytes of the file; `sealed` is as of this moment too."""
        status = os.fstat(self._fd)
        self.sealed = not status.st_mode & stat.S_IWUSR
        return status.st_size

    def grow(self) -> None:
        """Take in the whole batches that others have appended; an unfinished one is left for later."""
        while self.position < self.size:
            chunk = os.pread(self._fd, _CHUNK, self.position)
            size = self.size  # asked after the read: what lies below it is written
            at = 0
            while (header := parse_header(chunk, at)) is not None and self.position + header.size <= size:
                if header.base != self.next:
                    return
                self._take(header)
                at += header.size
            if at == 0:
                return

    def recover(self, synced: Callable[[], int]) -> None:
        """Verify what is not known yet and set an unfinished tail aside. The caller holds the partition's lock.

        Raises CheckFailed when it is no unfinished append: a whole batch follows, or it lies below the offset `synced()`,
        up to which everything was durable once.
        """
        size = self.size
        if size <= self.position:
            return
        with mmap.mmap(self._fd, size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            while self.position < size:
                header = _whole_batch(view, self.position)
                if header is None or header.base != self.next:
                    break
                self._take(header)
            if self.position < size:
                self._check_tail(view, synced())
                self._set_aside(view[self.position : size])
        if self.position < size:
            os.ftruncate(self._fd, self.position)
            os.fdatasync(self._fd)

    def _check_tail(self, view: memoryview, synced: int) -> None:
        if self.next < synced:
            raise CheckFailed(
                f"the batch at offset {self.next} in `{self.path}` is damaged; it was acknowledged as durable, as were all"
                f" before offset {synced}",
                hint="nothing was cut; restore the data folder from a backup: `headrace restore`",
            )
        bad = parse_header(view, self.position)
        if bad is not None and bad.base == self.next and _whole_batch(view, self.position + bad.size) is not None:
            raise CheckFailed(
                f"the batch at offset {self.next} in `{self.path}` is damaged and whole batches follow it",
                hint="restore the data folder from a backup: `headrace restore`",
            )

    def _set_aside(self, tail: memoryview) -> None:
        """Keep the bytes that are cut off in a file of their own, and report it."""
        number, kept = 0, self.path.with_name(f"{self.next:020d}{TORN}")
        while kept.exists():
            number += 1
            kept = self.path.with_name(f"{self.next:020d}.{number}{TORN}")
        write_synced(kept, tail)
        LOG.warning("event_log.torn_tail", segment=str(self.path), offset=self.next, bytes_cut=len(tail), kept_in=kept.name)

    def _take(self, header: BatchHeader) -> None:
        if self.position - self._positions[-1] >= _SPARSE:
            self._offsets.append(header.base)
            self._positions.append(self.position)
        self.position += header.size
        self.next = header.base + header.count

    def write(self, header: bytes, content: bytes, count: int) -> None:
        """Append one batch; on failure (a full disk) nothing of it stays. The caller holds the partition's lock."""
        parsed = parse_header(header)
        assert parsed is not None
        try:
            written = os.pwritev(self._fd, [header, content], self.position)
            rest = memoryview(header + content)[written:] if written < parsed.size else memoryview(b"")
            while rest:
                done = os.pwrite(self._fd, rest, self.position + written)
                written += done
                rest = rest[done:]
        except OSError as error:
            os.ftruncate(self._fd, self.position)
            raise EngineUnreachable(f"cannot append to `{self.path}`: {error.strerror}", hint="free disk space") from error
        self._take(parsed)

    def sync(self, position: int) -> int | None:
        """Make the first `position` bytes durable; returns the offset below which all is, None when they were."""
        if self._synced >= position:
            return None
        offset = self.next  # read before `position`: a batch of another thread may come between
        reached = self.position
        os.fdatasync(self._fd)
        self._synced = reached
        return offset

    def oldest(self) -> int:
        """The machine-clock time of the first append, 0 for an empty segment."""
        return self._header_at(0).timestamp if self.position else 0

    def newest(self) -> int:
        """The machine-clock time of the last append, 0 for an empty segment."""
        position, timestamp = self._positions[-1], 0
        while position < self.position:
            header = self._header_at(position)
            position, timestamp = position + header.size, header.timestamp
        return timestamp

    def _header_at(self, position: int) -> BatchHeader:
        header = parse_header(os.pread(self._fd, HEADER_SIZE, position))
        if header is None:
            raise self._no_batch(position)
        return header

    def _no_batch(self, position: int) -> CheckFailed:
        return CheckFailed(f"`{self.path}` has no batch at byte {position}", hint="`headrace restore`")

    def seal(self) -> None:
        """Make durable and store the index; nothing is appended any more."""
        self.sync(self.position)
        pairs = np.array([self._offsets, self._positions], np.int64)
        ends = np.array([[self.next], [self.position]], np.int64)
        beside = self.path.with_suffix(f".{os.getpid()}")
        with beside.open("wb") as file:
            np.save(file, np.concatenate([pairs, ends], axis=1))
        beside.rename(self.path.with_suffix(".index"))
        os.fchmod(self._fd, stat.S_IRUSR)

    def load_index(self) -> bool:
        """Take `position`, `next` and the index from the file that `seal` wrote; False when there is none that fits."""
        path = self.path.with_suffix(".index")
        try:
            stored = np.load(path)
        except (FileNotFoundError, ValueError, EOFError):
            return False
        if stored.ndim != 2 or stored.shape[1] < 2 or int(stored[1, -1]) != self.size:
            return False
        self._offsets, self._positions = stored[0, :-1].tolist(), stored[1, :-1].tolist()
        self.next, self.position = int(stored[0, -1]), int(stored[1, -1])
        return True

    def read_into(self, records: Records, limit: int) -> None:
        """Add records from `records.next` on until `limit` records are there or the segment ends."""
        offset, end = records.next, self.position
        recent = self._recent
        position = recent[1] if recent[0] == offset else self._positions[bisect_right(self._offsets, offset) - 1]
        length = 4 * _SPARSE
        while position < end and len(records) < limit:
            chunk = memoryview(os.pread(self._fd, min(length, end - position), position))
            length = min(2 * length, _CHUNK)
            at = 0
            while (header := parse_header(chunk, at)) is not None and len(records) < limit:
                if header.base + header.count > offset:
                    if at + header.size > len(chunk):
                        if at:
                            break
                        chunk = memoryview(os.pread(self._fd, header.size, position))
                    first = max(0, offset - header.base)
                    last = min(header.count, first + limit - len(records))
                    payload = chunk[at + HEADER_SIZE : at + header.size]
                    decode_into(records, header, payload, first, last, str(self.path))
                    if last < header.count:
                        self._recent = (records.next, position + at)
                        return
                at += header.size
            if at == 0:
                raise self._no_batch(position)
            position += at
        self._recent = (records.next, position)


def _whole_batch(view: memoryview, at: int) -> BatchHeader | None:
    """The header of the batch at `at` when all of it is there and its checksum holds."""
    header = parse_header(view, at)
    if header is None or at + header.size > len(view):
        return None
    return header if header.matches(view[at + HEADER_SIZE : at + header.size]) else None
