"""How far each stream is."""

from __future__ import annotations

from headrace.data.positions import position
from headrace.data.types import StreamSpec, StreamStatus
from headrace.engines.context import Context
from headrace.kernel.times import format_time


def stream_status(ctx: Context) -> list[StreamStatus]:
    """One record per declared stream, in order of declaration."""
    found = []
    for spec in ctx.specs.all(StreamSpec):
        at = position(ctx, spec.name)
        end = ctx.events.end(ctx.namespace.stream(spec.name), 0)
        watermark = None if at.watermark is None else format_time(at.watermark)
        found.append(
            StreamStatus(
                spec.name, at.next_offset, end, end - at.next_offset, at.accepted, at.redelivered, at.quarantined, watermark
            )
        )
    return found
