"""The embedded event log: `FOLDER/{topic}/@{partition}/{base offset}.segment`, and offsets in `FOLDER/offsets.sqlite`."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.engines.durable_files import write_synced
from headrace.engines.events.offsets import CommittedOffsets, GroupMember
from headrace.engines.events.partition import Partition
from headrace.engines.events.port import Records
from headrace.kernel.errors import IncompatibleFormat, InvalidInput, NotFound
from headrace.kernel.ids import new_id

SEGMENT_BYTES = 64 << 20
_MARK = "@topic"
_DELETED = "@deleted-"
"""Folders that are moved here at once, so that a topic is there whole or not at all; no topic begins with `@`."""
_PART = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,200}")


class _Topic(msgspec.Struct):
    format: int
    partitions: int


class SegmentLog:
    """Several processes may open the same folder. Topic names are parts of `[A-Za-z0-9._-]` with `/` between."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._counts: dict[str, int] = {}
        self._partitions: dict[tuple[str, int], Partition] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._offsets = CommittedOffsets(folder / "offsets.sqlite")

    def _path(self, topic: str) -> Path:
        if not all(_PART.fullmatch(part) for part in topic.split("/")):
            raise InvalidInput(
                f"`{topic}` cannot name a topic", hint="use letters, digits, `.`, `_`, `-`, and `/` between parts"
            )
        return self._folder / topic

    def _count(self, topic: str) -> int:
        """The number of partitions; 0 for an unknown topic."""
        if topic in self._counts:
            return self._counts[topic]
        try:
            mark = msgspec.json.decode((self._path(topic) / _MARK).read_bytes(), type=_Topic)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        if mark.format > 1:
            raise IncompatibleFormat.newer(f"topic `{topic}`", mark.format, 1)
        self._counts[topic] = mark.partitions
        return mark.partitions

    def create(self, topic: str, partitions: int = 1) -> None:
        if partitions < 1:
            raise InvalidInput(f"{partitions} partitions for topic `{topic}`", hint="give at least 1")
        folder = self._path(topic)
        if self._count(topic) == 0:
            folder.mkdir(parents=True, exist_ok=True)
            beside = folder / f"@{new_id()}"
            write_synced(beside, msgspec.json.encode(_Topic(1, partitions)))
            try:
                os.link(beside, folder / _MARK)
            except FileExistsError:  # another process was first; its number is compared below
                pass
            finally:
                beside.unlink()
        found = self._count(topic)
        if found != partitions:
            raise InvalidInput(f"topic `{topic}` has {found} partitions, not {partitions}", hint="use another topic")

    def topics(self) -> dict[str, int]:
        found = {}
        for folder, below, files in os.walk(self._folder):  # (passes over what another process deletes meanwhile)
            below[:] = [name for name in below if not name.startswith("@")]
            topic = str(Path(folder).relative_to(self._folder))
            if _MARK in files and (count := self._count(topic)):
                found[topic] = count
        return dict(sorted(found.items()))

    def delete(self, topic: str) -> None:
        within = [name for name in self.topics() if name.startswith(f"{topic}/")]
        if within:
            raise InvalidInput(f"topic `{topic}` cannot be deleted: `{within[0]}` lies in it", hint="delete that one first")
        with self._mutex:
            for key in [key for key in self._partitions if key[0] == topic]:
                self._partitions.pop(key).close(sync=False)
            self._counts.pop(topic, None)
        with suppress(FileNotFoundError):  # an unknown one
            self._path(topic).rename(self._folder / f"{_DELETED}{new_id()}")
        for path in self._folder.glob(f"{_DELETED}*"):  # also what a process that died here has left
            shutil.rmtree(path, ignore_errors=True)  # (another process deletes it too)

    def _partition(self, topic: str, partition: int) -> Partition:
        found = self._partitions.get((topic, partition))
        if found is not None:
            return found
        count = self._count(topic)
        if not 0 <= partition < count:
            if count == 0:
                raise NotFound.of("topic", topic, self.topics())
            raise InvalidInput(f"topic `{topic}` has no partition {partition}", hint=f"use 0 to {count - 1}")
        with self._mutex:
            if (topic, partition) not in self._partitions:
                self._partitions[topic, partition] = Partition(self._path(topic) / f"@{partition}", self._segment_bytes)
            return self._partitions[topic, partition]

    def append(
        self,
        topic: str,
        partition: int,
        values: Sequence[bytes],
        *,
        keys: Sequence[bytes] | None = None,
        headers: Sequence[bytes] | None = None,
        sync: bool = True,
    ) -> int:
        if (topic, partition) not in self._partitions and self._count(topic) == 0:
            self.create(topic)
        return self._partition(topic, partition).append(values, keys, headers, sync)

    def read(self, topic: str, partition: int, offset: int, *, max_records: int = 65_536) -> Records:
        if self._count(topic) == 0:
            if offset < 0:
                raise InvalidInput(f"offset {offset} is below the first kept offset 0", hint="read from 0 on")
            return Records(offset)
        return self._partition(topic, partition).read(offset, max_records)

    def first(self, topic: str, partition: int) -> int:
        return 0 if self._count(topic) == 0 else self._partition(topic, partition).first()

    def retain(
        self,
        topic: str,
        partition: int,
        keep_from: int,
        *,
        older_than: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        return 0 if self._count(topic) == 0 else self._partition(topic, partition).retain(keep_from, older_than, max_bytes)

    def end(self, topic: str, partition: int) -> int:
        return 0 if self._count(topic) == 0 else self._partition(topic, partition).end()

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._offsets.commit(group, topic, partition, offset)

    def committed(self, group: str, topic: str, partition: int) -> int:
        return self._offsets.committed(group, topic, partition)

    def join(self, group: str, topic: str, member: str, *, lease: float = 10.0) -> GroupMember:
        count = self._count(topic)
        if count == 0:
            raise NotFound.of("topic", topic, self.topics())
        return GroupMember(self._offsets, group, topic, count, member, lease)

    def close(self, *, sync: bool = True) -> None:
        with self._mutex:
            for partition in self._partitions.values():
                partition.close(sync=sync)
            self._partitions.clear()
            self._offsets.close()
