"""The ways into a stream: raw events or typed rows, each with the event-clock time of its arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.data.contract import contract_of
from headrace.data.json_fields import exploded
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.partitions import base_of, partition_of_key
from headrace.kernel.times import format_time

_CHUNK = 65_536


class EventHeader(msgspec.Struct, omit_defaults=True, frozen=True):
    """`at`: event-clock microseconds of the append, against which the contract judges; `history`: created = event time.
    `producer` and `sequence` name the batch of a producer that appends each batch once (`producing.py`)."""

    at: int
    history: bool = False
    producer: str = ""
    sequence: int = 0


decode_header = msgspec.json.Decoder(EventHeader).decode


def append_raw(
    ctx: Context,
    stream: str,
    values: Sequence[bytes],
    *,
    history: bool = False,
    producer: str = "",
    sequence: int = 0,
    since: Sequence[int] = (),
) -> int:
    """Append events durably, as they are, and return the position of the first; the contract is checked when they are
    applied. NotFound for an undeclared stream. `history` marks an import: such events were created at their event time.

    On a stream of several partitions each event goes to that of its key, one that cannot be read to partition 0, and the
    batch is whole or not at all in each partition. A producer that appends it again gives `since`, the ends of the
    partitions when it did first: where the same events are, they are not appended again.
    """
    spec = ctx.specs.get(StreamSpec, stream)
    if spec.explode is not None:
        values = [event for value in values for event in exploded(value, spec.explode)]
    topic, header = ctx.namespace.stream(stream), EventHeader(ctx.clock.now(), history, producer, sequence)
    encoded = msgspec.json.encode(header)
    if spec.partitions == 1:
        return ctx.events.append(topic, 0, values, headers=[encoded] * len(values))
    ctx.events.create(topic, spec.partitions)
    if not values:
        return ctx.events.end(topic, 0)
    partitions = _partitions_of(spec, values, header.at)
    positions = {}
    for partition in sorted(set(partitions)):
        own = [value for value, other in zip(values, partitions, strict=True) if other == partition]
        offset = appended_at(ctx, stream, producer, sequence, since[partition], partition) if since else None
        if offset is None or ctx.events.read(topic, partition, offset, max_records=len(own)).values != own:
            offset = ctx.events.append(topic, partition, own, headers=[encoded] * len(own))
        positions[partition] = base_of(partition) + offset
    return positions[partitions[0]]


class RowAppender:
    """Appends typed rows (times in microseconds, more fields than the stream's allowed) as events of one stream, each as it
    would be sent by a client. A stream drops a row that it has already by its id."""

    def __init__(self, ctx: Context, spec: StreamSpec) -> None:
        self._ctx = ctx
        self._spec = spec
        self._topic = ctx.namespace.stream(spec.name)
        self._times = {field.name for field in spec.fields if field.type == "datetime"}
        self._unsynced: set[int] = set()
        ctx.events.create(self._topic, spec.partitions)

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """On return the events survive SIGKILL; with `sync`, power loss too."""
        parts: dict[int, list[bytes]] = {}
        for row in rows:
            parts.setdefault(partition_of_key(row[self._spec.key], self._spec.partitions), []).append(self._event(row))
        header = msgspec.json.encode(EventHeader(self._ctx.clock.now()))
        for partition, values in parts.items():
            self._ctx.events.append(self._topic, partition, values, headers=[header] * len(values), sync=False)
            self._unsynced.add(partition)

    def sync(self) -> None:
        """Make everything appended so far durable; blocks for the fsync, any thread may call it."""
        for partition in list(self._unsynced):
            self._unsynced.discard(partition)  # (before the fsync: what is appended meanwhile waits for the next)
            self._ctx.events.append(self._topic, partition, [], sync=True)

    def _event(self, row: Mapping[str, Any]) -> bytes:
        given = {field.name: row[field.name] for field in self._spec.fields if field.name in row}
        for name in self._times.intersection(given):
            if given[name] is not None:
                given[name] = format_time(given[name])
        return msgspec.json.encode(given)


def _partitions_of(spec: StreamSpec, values: Sequence[bytes], at: int) -> list[int]:
    frame, _ = contract_of(spec).decode_batch(values, at)
    keys = frame[spec.key].to_physical().to_list()
    known = {key: partition_of_key(key, spec.partitions) for key in set(keys)}
    found = [0] * len(values)
    for place, key in zip(frame["_index"].to_list(), keys, strict=True):
        found[place] = known[key]
    return found


def stream_ends(ctx: Context, stream: str) -> list[int]:
    """The end of each partition of the stream's log."""
    spec = ctx.specs.get(StreamSpec, stream)
    return [ctx.events.end(ctx.namespace.stream(stream), partition) for partition in range(spec.partitions)]


def appended_at(ctx: Context, stream: str, producer: str, sequence: int, first: int, partition: int = 0) -> int | None:
    """The offset of the batch `sequence` of the producer, looked for from offset `first` to the end of the log."""
    topic = ctx.namespace.stream(stream)
    first = max(first, ctx.events.first(topic, partition))
    while (records := ctx.events.read(topic, partition, first, max_records=_CHUNK)).values:
        for header in set(records.headers):
            if header:
                known = decode_header(header)
                if (known.producer, known.sequence) == (producer, sequence):
                    return records.first + records.headers.index(header)
        first = records.next
    return None
