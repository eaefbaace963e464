"""How far each stream is."""

from __future__ import annotations

from headrace.data.appending import stream_ends
from headrace.data.positions import positions, watermark
from headrace.data.types import StreamSpec, StreamStatus
from headrace.engines.context import Context
from headrace.kernel.times import format_time


def stream_status(ctx: Context) -> list[StreamStatus]:
    """One record per declared stream, in order of declaration."""
    found = []
    for spec in ctx.specs.all(StreamSpec):
        parts = positions(ctx, spec)
        applied, end = sum(at.next_offset for at in parts), sum(stream_ends(ctx, spec.name))
        newest = watermark(ctx, spec.name)
        found.append(
            StreamStatus(
                spec.name,
                applied,
                end,
                end - applied,
                sum(at.accepted for at in parts),
                sum(at.redelivered for at in parts),
                sum(at.quarantined for at in parts),
                None if newest is None else format_time(newest),
            )
        )
    return found
