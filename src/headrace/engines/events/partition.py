"""One partition of a topic: segment files that several threads and processes append to under one file lock."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headrace.engines.durable_files import sync_folder
from headrace.engines.events.framing import encode
from headrace.engines.events.marks import KEPT, SYNCED, Mark
from headrace.engines.events.port import Records
from headrace.engines.events.segment_file import SUFFIX, TORN, SegmentFile
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import CheckFailed, InvalidInput

SEGMENTS_PER_AGE = 8
"""A record goes at the latest when it is this share older than the retention says."""


class Partition:
    """Opening repairs an unfinished tail. A segment of `segment_bytes` or more is sealed by the next append."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._depth = 0
        self._sync_mutex = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._close_lock = weakref.finalize(self, os.close, self._lock_fd)
        self._kept = Mark(folder / KEPT)
        self._synced = Mark(folder / SYNCED)
        with self._locked():
            self._delete_dropped(self._kept.value())
            self._segments = self._open() or [self._create(0)]
            self._segments[-1].recover(self._synced.value)
            self._check_end()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclusive among the threads of this process and among processes; a dead process holds nothing."""
        with self._mutex:
            if self._depth == 0:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _open(self) -> list[SegmentFile]:
        """The kept segments; what the last one holds is not known yet. CheckFailed when one between is missing or cut."""
        kept = self._kept.value()
        bases = sorted(base for path in self._folder.glob(f"*{SUFFIX}") if (base := int(path.stem)) >= kept)
        segments = [SegmentFile(self._folder, base) for base in bases]
        for segment, following in zip(segments, bases[1:], strict=False):
            if not segment.load_index():
                segment.grow()
            if segment.next != following:
                raise CheckFailed(
                    f"`{segment.path}` ends at offset {segment.next}, the next segment begins at {following}: it is cut, or"
                    " one between them is missing",
                    hint="restore the data folder from a backup: `headrace restore`",
                )
        return segments

    def _check_end(self) -> None:
        end, synced = self._segments[-1].next, self._synced.value()
        if end < synced:
            raise CheckFailed(
                f"`{self._segments[-1].path}` ends at offset {end}, but all before offset {synced} was acknowledged as durable",
                hint="restore the data folder from a backup: `headrace restore`",
            )

    def _create(self, base: int) -> SegmentFile:
        segment = SegmentFile(self._folder, base, create=True)
        sync_folder(self._folder)
        return segment

    def _follow(self) -> bool:
        """Open the segment after the last one, whose size was just asked, if another process has started it."""
        last = self._segments[-1]
        following = last.next
        if not last.sealed or following == last.base:
            return False
        try:
            self._segments.append(SegmentFile(self._folder, following))
        except FileNotFoundError:
            if self._kept.value() <= following:
                return False  # sealed, but not followed yet
            with self._locked():
                self._segments = self._open()  # another process has dropped segments that were never opened here
        return True

    def _refresh(self) -> None:
        self._segments[-1].grow()
        while self._follow():
            self._segments[-1].grow()

    def _recover(self) -> None:
        """As `_refresh`, verifying; the caller holds the lock."""
        self._segments[-1].recover(self._synced.value)
        while self._follow():
            self._segments[-1].recover(self._synced.value)

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
            self._recover()
            active = self._segments[-1]
            offset = active.next
            if payload is not None:
                if active.sealed or active.position >= self._segment_bytes:
                    active = self._roll()
                active.write(payload.header(offset, MACHINE.now()), payload.content, payload.count)
            position = active.position
        if sync:
            with self._sync_mutex:
                self._sync(active, position, durable_mark=False)
        return offset

    def _roll(self) -> SegmentFile:
        """Seal the active segment and begin the next one; the caller holds the lock."""
        active = self._segments[-1]
        active.seal()
        self._synced.grow(active.next, durable=True)
        self._segments.append(self._create(active.next))
        return self._segments[-1]

    def _sync(self, segment: SegmentFile, position: int, *, durable_mark: bool) -> None:
        """The mark is not synced each time: power loss may set it back, which protects less, and never too much."""
        reached = segment.sync(position)
        if reached is not None:
            self._synced.grow(reached, durable=durable_mark)

    def first(self) -> int:
        with self._mutex:
            return max(self._segments[0].base, self._kept.value())

    def read(self, offset: int, max_records: int) -> Records:
        with self._mutex:
            self._refresh()
            segments, first = list(self._segments), self.first()
        if offset < first:
            dropped = "; older ones were dropped by retention" if first else ""
            raise InvalidInput(f"offset {offset} is below the first kept offset {first}{dropped}", hint=f"read from {first} on")
        records = Records(offset)
        for segment in segments:
            if segment.next > records.next and len(records) < max_records:
                segment.read_into(records, max_records)
        return records

    def end(self) -> int:
        with self._mutex:
            self._refresh()
            return self._segments[-1].next

    def retain(self, keep_from: int, older_than: int | None, max_bytes: int | None) -> int:
        """Drop whole segments from the oldest on; see the port. Returns the first kept offset."""
        with self._locked():
            self._recover()
            self._segments = [s for s in self._segments if s.base >= self._kept.value()]
            total, number = sum(segment.position for segment in self._segments), 0

            while (segment := self._segments[number]).position and segment.next <= keep_from:
                active = number == len(self._segments) - 1
                too_old = older_than is not None and segment.newest() < older_than
                if not too_old and (active or max_bytes is None or total <= max_bytes):
                    break
                if active:
                    self._roll()
                total -= segment.position
                number += 1
            first = self._segments[number].base
            if number:
                self._kept.grow(first, durable=True)
                self._segments = self._segments[number:]
                self._delete_dropped(first)
            if older_than is not None:
                self._part(MACHINE.now() - older_than)
        return first

    def _part(self, age: int) -> None:
        """Begin a new segment when the active one spans a share of `age` (microseconds): a topic that gets little would keep
        its oldest record for as long as newer ones follow it into the segment. The caller holds the lock."""
        active = self._segments[-1]
        if active.position and not active.sealed and MACHINE.now() - active.oldest() > age // SEGMENTS_PER_AGE:
            self._roll()

    def _delete_dropped(self, kept: int) -> None:
        """Delete the files of what lies below the mark; a process killed between leaves them to the next opening."""
        for path in (p for suffix in (SUFFIX, TORN) for p in self._folder.glob(f"*{suffix}")):
            if int(path.name.partition(".")[0]) < kept:
                path.unlink(missing_ok=True)
                path.with_suffix(".index").unlink(missing_ok=True)

    def close(self, *, sync: bool) -> None:
        with self._mutex:
            for segment in self._segments:
                if sync:
                    self._sync(segment, segment.position, durable_mark=True)
                segment.close()
            for mark in (self._kept, self._synced):
                mark.close()
            self._close_lock()
