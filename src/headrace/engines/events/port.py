"""The event log port: topics of partitions of records, append-only, with consumer offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Records:
    """Consecutive records of one partition: offsets `first` .. `first + len - 1`. `timestamps` are machine-clock
    microseconds of the append; `headers` are small JSON objects as bytes, empty when there are none."""

    first: int
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next(self) -> int:
        """The offset after the last record."""
        return self.first + len(self.values)


class Member(Protocol):
    """One member of a consumer group of one topic."""

    def assigned(self) -> dict[int, int]:
        """Renew the lease and return the partitions to read, each with its generation, which grows whenever the partition
        changes hands. Call it between two batches, at least three times within the lease: a partition that another member
        is to have is given back by this call, one that nobody holds is taken. Fenced when another process has joined
        under this name."""
        ...

    def renew(self) -> None:
        """Renew the lease and change nothing else; from any thread, during a long batch. Fenced as `assigned`."""
        ...

    def commit(self, partition: int, offset: int) -> None:
        """Store the next offset the group will read; durable on return. Fenced unless the partition is this member's, in
        the generation that `assigned` returned last."""
        ...

    def leave(self) -> None:
        """Give everything back at once."""
        ...


class EventLog(Protocol):
    """Every engine passes `engines/conformance/events.py`."""

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create the topic unless it exists. InvalidInput when it exists with another number of partitions."""
        ...

    def topics(self) -> dict[str, int]:
        """Topic names with their number of partitions."""
        ...

    def delete(self, topic: str) -> None:
        """Delete the topic with its records, unless it is unknown; one that is created under its name begins at offset 0. Who
        has it open elsewhere must not use it any more: what is appended there may be lost. InvalidInput where the name is
        the beginning of another topic's."""
        ...

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
        """Append all or none and return the offset of the first. On return the records survive SIGKILL of this
        process; with `sync` also power loss. Safe from several threads and processes. Unknown topics are created."""
        ...

    def read(self, topic: str, partition: int, offset: int, *, max_records: int = 65_536) -> Records:
        """Records from `offset` on, possibly none (at the end). InvalidInput below the first kept offset."""
        ...

    def first(self, topic: str, partition: int) -> int:
        """The first kept offset; 0 for an unknown topic."""
        ...

    def end(self, topic: str, partition: int) -> int:
        """The offset the next append will get; 0 for an unknown topic."""
        ...

    def retain(
        self,
        topic: str,
        partition: int,
        keep_from: int,
        *,
        older_than: int | None = None,
        max_bytes: int | None = None,
    ) -> int:
        """Drop the oldest records, all of them below `keep_from`: those appended before `older_than` (machine-clock
        microseconds), and those by which the partition is larger than `max_bytes`. An engine drops whole segments, so more
        may stay. Returns the first kept offset, 0 for an unknown topic; offsets are never given again."""
        ...

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Store the next offset that `group` will read; durable on return."""
        ...

    def committed(self, group: str, topic: str, partition: int) -> int:
        """The stored offset, 0 when there is none."""
        ...

    def join(self, group: str, topic: str, member: str, *, lease: float = 10.0) -> Member:
        """Become a member of the group, in place of an earlier one of this name. Partitions are spread evenly over the
        members and change hands as rarely as possible; those of a member that has not called for `lease` seconds of the
        machine clock go to the others. NotFound for an unknown topic."""
        ...

    def close(self, *, sync: bool = True) -> None: ...
