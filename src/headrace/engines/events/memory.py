"""An event log in memory, for tests of what is built on the port."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from headrace.engines.events.offsets import CommittedOffsets, GroupMember
from headrace.engines.events.port import Records
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, NotFound


class MemoryLog:
    """Passes the same conformance suite; nothing survives the process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._topics: dict[str, list[Records]] = {}
        self._offsets = CommittedOffsets(None)

    def create(self, topic: str, partitions: int = 1) -> None:
        if partitions < 1 or not topic or any(not part or set(part) <= {"."} for part in topic.split("/")):
            raise InvalidInput(f"cannot create topic `{topic}` with {partitions} partitions", hint="give at least 1")
        with self._mutex:
            found = self._topics.setdefault(topic, [Records(0) for _ in range(partitions)])
        if len(found) != partitions:
            raise InvalidInput(f"topic `{topic}` has {len(found)} partitions, not {partitions}", hint="use another topic")

    def topics(self) -> dict[str, int]:
        return {topic: len(partitions) for topic, partitions in sorted(self._topics.items())}

    def delete(self, topic: str) -> None:
        within = [name for name in self._topics if name.startswith(f"{topic}/")]
        if within:
            raise InvalidInput(f"topic `{topic}` cannot be deleted: `{within[0]}` lies in it", hint="delete that one first")
        with self._mutex:
            self._topics.pop(topic, None)

    def _partition(self, topic: str, partition: int) -> Records:
        partitions = self._topics.get(topic, [Records(0)] * (partition + 1))
        if not 0 <= partition < len(partitions):
            raise InvalidInput(f"topic `{topic}` has no partition {partition}", hint=f"use 0 to {len(partitions) - 1}")
        return partitions[partition]

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
        for name, column in (("keys", keys), ("headers", headers)):
            if column is not None and len(column) != len(values):
                raise InvalidInput(f"{len(column)} {name} for {len(values)} values", hint="give one for each value")
        if topic not in self._topics:
            self.create(topic)
        with self._mutex:
            stored = self._partition(topic, partition)
            offset = stored.next
            stored.keys += keys if keys is not None else [b""] * len(values)
            stored.headers += headers if headers is not None else [b""] * len(values)
            stored.timestamps += [MACHINE.now()] * len(values)
            stored.values += values
            return offset

    def read(self, topic: str, partition: int, offset: int, *, max_records: int = 65_536) -> Records:
        with self._mutex:
            stored = self._partition(topic, partition)
            first = stored.first
            if offset < first:
                raise InvalidInput(f"offset {offset} is below the first kept offset {first}", hint=f"read from {first} on")
            part = slice(offset - first, offset - first + max_records)
            return Records(offset, stored.keys[part], stored.values[part], stored.timestamps[part], stored.headers[part])

    def first(self, topic: str, partition: int) -> int:
        with self._mutex:
            return self._partition(topic, partition).first

    def retain(
        self,
        topic: str,
        partition: int,
        keep_from: int,
        *,
        older_than: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        with self._mutex:
            stored = self._partition(topic, partition)
            total, dropped = sum(map(len, stored.values)), 0
            while dropped < min(len(stored), keep_from - stored.first):
                too_old = older_than is not None and stored.timestamps[dropped] < older_than
                if not too_old and (max_bytes is None or total <= max_bytes):
                    break
                total -= len(stored.values[dropped])
                dropped += 1
            for column in (stored.keys, stored.values, stored.timestamps, stored.headers):
                del column[:dropped]
            stored.first += dropped
            return stored.first

    def end(self, topic: str, partition: int) -> int:
        with self._mutex:
            return self._partition(topic, partition).next

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        self._offsets.commit(group, topic, partition, offset)

    def committed(self, group: str, topic: str, partition: int) -> int:
        return self._offsets.committed(group, topic, partition)

    def join(self, group: str, topic: str, member: str, *, lease: float = 10.0) -> GroupMember:
        if topic not in self._topics:
            raise NotFound.of("topic", topic, self._topics)
        return GroupMember(self._offsets, group, topic, len(self._topics[topic]), member, lease)

    def close(self, *, sync: bool = True) -> None:
        pass
