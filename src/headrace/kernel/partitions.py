"""Partitions of a stream, and the position of an event as one number.

A position is `partition << 44 | offset`: of one partition positions are ordered as offsets, and in partition 0 they are the
offsets. All events of a key lie in one partition, so that positions order them as they came.
"""

from __future__ import annotations

from headrace.kernel.ids import Key, key_hash

OFFSET_BITS = 44
MAX_PARTITIONS = 256
"""With 44 bits of offset positions stay below 2**53, which every JSON reader takes."""


def partition_of_key(key: Key, partitions: int) -> int:
    """The partition of the events of `key`."""
    return 0 if partitions == 1 else key_hash(key) % partitions


def base_of(partition: int) -> int:
    """The position of offset 0; one less is the position of nothing applied."""
    return partition << OFFSET_BITS


def partition_of(position: int) -> int:
    """The partition of the position of an event or of the next one; that of a last one applied is of `position + 1`."""
    return position >> OFFSET_BITS


def came_before(position: int, other: int) -> bool:
    """Whether the event at `position` counts as earlier than one at `other`: those of another partition do."""
    return position < other or partition_of(position) != partition_of(other)
