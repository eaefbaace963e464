"""How far each stream is applied, and the counts that go with it: one catalog row, written in one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import select

from headrace.data.tables import STREAM_POSITIONS
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """`next_offset` is the next offset to apply; `watermark` the newest accepted event time, microseconds."""

    next_offset: int = 0
    accepted: int = 0
    redelivered: int = 0
    quarantined: int = 0
    watermark: int | None = None


def position(ctx: Context, stream: str) -> StreamPosition:
    """The stored position, zeros for a stream of which nothing was applied."""
    table = STREAM_POSITIONS
    columns = [table.c.next_offset, table.c.accepted, table.c.redelivered, table.c.quarantined, table.c.watermark]
    with ctx.catalog.reading() as connection:
        row = connection.execute(select(*columns).where(table.c.system == ctx.system, table.c.stream == stream)).first()
    return StreamPosition() if row is None else StreamPosition(*row)


def store_position(ctx: Context, stream: str, applied: StreamPosition) -> None:
    table = STREAM_POSITIONS
    values = asdict(applied)
    with ctx.catalog.transaction() as connection:
        own = (table.c.system == ctx.system) & (table.c.stream == stream)
        if connection.execute(table.update().where(own).values(**values)).rowcount == 0:
            connection.execute(table.insert().values(system=ctx.system, stream=stream, **values))


def check_logs(ctx: Context) -> None:
    """CheckFailed when the log of a stream ends before what was applied of it: events are lost, and new ones would take
    their offsets and pass for applied."""
    for spec in ctx.specs.all(StreamSpec):
        applied, end = position(ctx, spec.name).next_offset, ctx.events.end(ctx.namespace.stream(spec.name), 0)
        if end < applied:
            raise CheckFailed(
                f"the log of stream `{spec.name}` ends at offset {end}, but was applied up to {applied}: events are lost",
                hint="restore the data folder from a backup: `headrace restore`",
            )
