"""How far each stream is applied, and the counts that go with it: one catalog row, written in one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import select

from headrace.data.tables import STREAM_POSITIONS
from headrace.engines.context import Context


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
