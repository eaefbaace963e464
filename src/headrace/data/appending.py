"""The one way into a stream: raw events, each with the event-clock time of its arrival."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.data.types import StreamSpec
from headrace.engines.context import Context


class EventHeader(msgspec.Struct, omit_defaults=True):
    """`at`: event-clock microseconds of the append, against which the contract judges; `history`: created = event time."""

    at: int
    history: bool = False


def append_raw(ctx: Context, stream: str, values: Sequence[bytes], *, history: bool = False) -> int:
    """Append events durably, as they are, and return the offset of the first; the contract is checked when they are
    applied. NotFound for an undeclared stream. `history` marks an import: such events were created at their event time.
    """
    ctx.specs.get(StreamSpec, stream)
    header = msgspec.json.encode(EventHeader(ctx.clock.now(), history))
    return ctx.events.append(ctx.namespace.stream(stream), 0, values, headers=[header] * len(values))
