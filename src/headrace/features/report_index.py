"""Where the event of a report is in the online state, or that its report came before it.

One entry per value of the join column, under `{system}/view/{hash}~on/{value}`: the event's time and offset, the time of
its earliest report, and the key bytes of the entity that it belongs to. An entry without an event waits for it. Entries
of events that no window can reach any more are deleted by the list of their batch, `{system}/view/{hash}~old/{time}`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.engines.online.port import OnlineStore
from headrace.features.state import NEVER, StateLayout, entity_keys
from headrace.features.timeline import ALWAYS
from headrace.kernel.ids import key_bytes

_ENTRY = struct.Struct("<qqq")
_SHIFT = 1 << 63
Changes = dict[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """`offset` -1: the event has not come yet."""

    time: int
    offset: int
    reported: int
    entity: bytes

    def pack(self) -> bytes:
        return _ENTRY.pack(self.time, self.offset, self.reported) + self.entity

    @classmethod
    def unpack(cls, blob: bytes) -> Entry:
        time, offset, reported = _ENTRY.unpack_from(blob)
        return cls(time, offset, reported, blob[_ENTRY.size :])


class ReportIndex:
    """The entries of one joined view, of the keys of one partition."""

    def __init__(self, layout: StateLayout, on: str, partition: int = 0) -> None:
        self.on = on
        self.prefix = layout.applied_key_of(partition) + b"~on/"
        self._old = layout.applied_key_of(partition) + b"~old/"

    def keys(self, frame: pl.DataFrame, rows: np.ndarray | None = None) -> list[bytes]:
        """The entry keys of rows of the stream or of the report stream, by default of all."""
        return [self.prefix + value for value in entity_keys(frame, (self.on,), rows)]

    def key(self, value: Any) -> bytes:
        """The entry key of one value of the join column."""
        return self.prefix + key_bytes(value)

    def find(self, online: OnlineStore, keys: Sequence[bytes]) -> list[Entry | None]:
        return [None if blob is None else Entry.unpack(blob) for blob in online.get_many(keys)]

    def enter(self, keys: Sequence[bytes], times: Sequence[int], offsets: Sequence[int], reported: Sequence[int],
              entities: Sequence[bytes]) -> Changes:  # fmt: skip
        """Entries of new events, and the list by which they will be deleted."""
        pack = _ENTRY.pack
        rows = zip(keys, times, offsets, reported, entities, strict=True)
        changes: Changes = {key: pack(t, o, r) + entity for key, t, o, r, entity in rows}
        if keys:
            place = self._old + (max(times) + _SHIFT).to_bytes(8, "big") + max(offsets).to_bytes(8, "big")
            changes[place] = msgspec.msgpack.encode([key[len(self.prefix) :] for key in keys])
        return changes

    def wait(self, reports: Mapping[bytes, int]) -> Changes:
        """Entries of reports whose events have not come."""
        return {key: Entry(NEVER, -1, time, b"").pack() for key, time in reports.items()}

    def forget(self, online: OnlineStore, trim: int) -> Changes:
        """Deletions of the entries of all batches without an event later than `trim`."""
        changes: Changes = {}
        for place, listed in self._batches(online, trim):
            changes[place] = None
            changes.update({self.prefix + value: None for value in msgspec.msgpack.decode(listed, type=list[bytes])})
        return changes

    def _batches(self, online: OnlineStore, trim: int) -> Iterator[tuple[bytes, bytes]]:
        for place, listed in online.scan(self._old):
            if int.from_bytes(place[len(self._old) :][:8], "big") - _SHIFT > trim:
                return
            yield place, listed


def reported_time(blob: bytes | None) -> int:
    """The time of the earliest report of an entry, for ever in the future when there is none."""
    return ALWAYS if blob is None else Entry.unpack(blob).reported
