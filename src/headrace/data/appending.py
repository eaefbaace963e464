"""The one way into a stream: raw events, each with the event-clock time of its arrival."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.data.types import StreamSpec
from headrace.engines.context import Context

_CHUNK = 65_536


class EventHeader(msgspec.Struct, omit_defaults=True, frozen=True):
    """`at`: event-clock microseconds of the append, against which the contract judges; `history`: created = event time.
    `producer` and `sequence` name the batch of a producer that appends each batch once (`producing.py`)."""

    at: int
    history: bool = False
    producer: str = ""
    sequence: int = 0


_decode_header = msgspec.json.Decoder(EventHeader).decode


def append_raw(
    ctx: Context, stream: str, values: Sequence[bytes], *, history: bool = False, producer: str = "", sequence: int = 0
) -> int:
    """Append events durably, as they are, and return the offset of the first; the contract is checked when they are
    applied. NotFound for an undeclared stream. `history` marks an import: such events were created at their event time.
    """
    ctx.specs.get(StreamSpec, stream)
    header = msgspec.json.encode(EventHeader(ctx.clock.now(), history, producer, sequence))
    return ctx.events.append(ctx.namespace.stream(stream), 0, values, headers=[header] * len(values))


def appended_at(ctx: Context, stream: str, producer: str, sequence: int, first: int) -> int | None:
    """The offset of the batch `sequence` of the producer, looked for from offset `first` to the end of the log."""
    topic = ctx.namespace.stream(stream)
    while (records := ctx.events.read(topic, 0, first, max_records=_CHUNK)).values:
        for header in set(records.headers):
            if header:
                known = _decode_header(header)
                if (known.producer, known.sequence) == (producer, sequence):
                    return records.first + records.headers.index(header)
        first = records.next
    return None
