"""What opening a partition has cut off: unfinished appends, kept in files beside the segments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.engines.events.segment_file import TORN


@dataclass(frozen=True, slots=True)
class Repair:
    """`path` holds the `size` bytes that stood where the batch of `offset` would have stood."""

    topic: str
    partition: int
    offset: int
    size: int
    path: Path


def repairs(folder: Path) -> list[Repair]:
    """Those of every topic of an event log folder, by topic and offset."""
    found = [_repair(folder, path) for path in folder.rglob(f"*{TORN}")]
    return sorted(found, key=lambda repair: (repair.topic, repair.partition, repair.offset, repair.path.name))


def _repair(folder: Path, path: Path) -> Repair:
    partition = path.parent
    topic = str(partition.parent.relative_to(folder))
    return Repair(topic, int(partition.name[1:]), int(path.name.partition(".")[0]), path.stat().st_size, path)
