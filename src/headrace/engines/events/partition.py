"""One partition of a topic: segment files that several threads and processes append to under one file lock."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headrace.engines.events.framing import encode
from headrace.engines.events.port import Records
from headrace.engines.events.segment_file import SUFFIX, SegmentFile
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput


class Partition:
    """Opening repairs an unfinished tail. A segment of `segment_bytes` or more is sealed by the next append."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._sync_mutex = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        with self._locked():
            bases = sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}"))
            self._segments = [SegmentFile(folder, base) for base in bases] or [self._create(0)]
            for segment in self._segments[:-1]:
                if not segment.load_index():
                    segment.grow()
            self._segments[-1].recover()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclusive among the threads of this process and among processes; a dead process holds nothing."""
        with self._mutex:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _create(self, base: int) -> SegmentFile:
        segment = SegmentFile(self._folder, base, create=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment

    def _follow(self) -> bool:
        """Open the segment after the last one, whose size was just asked, if another process has started it."""
        last = self._segments[-1]
        following = last.next
        if not last.sealed or following == last.base or not (self._folder / f"{following:020d}{SUFFIX}").exists():
            return False
        self._segments.append(SegmentFile(self._folder, following))
        return True

    def _refresh(self) -> None:
        self._segments[-1].grow()
        while self._follow():
            self._segments[-1].grow()

    def append(
        self,
        values: Sequence[bytes],
        keys: Sequence[bytes] | None,
        headers: Sequence[bytes] | None,
        sync: bool,
    ) -> int:
        """Append one batch. Without values it only makes durable what was appended before."""
        payload = encode(values, keys, headers) if values else None
        with self._locked():
            self._segments[-1].recover()
            while self._follow():
                self._segments[-1].recover()
            active = self._segments[-1]
            offset = active.next
            if payload is not None:
                if active.sealed or active.position >= self._segment_bytes:
                    active.seal()
                    active = self._create(offset)
                    self._segments.append(active)
                active.write(payload.header(offset, MACHINE.now()), payload.content, payload.count)
            position = active.position
        if sync:
            with self._sync_mutex:
                active.sync(position)
        return offset

    def read(self, offset: int, max_records: int) -> Records:
        first = self._segments[0].base
        if offset < first:
            raise InvalidInput(f"offset {offset} is below the first kept offset {first}", hint=f"read from {first} on")
        with self._mutex:
            self._refresh()
            segments = list(self._segments)
        records = Records(offset)
        for segment in segments:
            if segment.next > records.next and len(records) < max_records:
                segment.read_into(records, max_records)
        return records

    def end(self) -> int:
        with self._mutex:
            self._refresh()
            return self._segments[-1].next

    def close(self, *, sync: bool) -> None:
        with self._mutex:
            for segment in self._segments:
                if sync:
                    segment.sync(segment.position)
                segment.close()
            os.close(self._lock_fd)
