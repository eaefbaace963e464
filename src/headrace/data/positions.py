"""How far each partition of a stream is applied, and the counts that go with it: one catalog row, written in one
transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import select

from headrace.data.tables import STREAM_POSITIONS
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, Fenced


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """`next_offset` is the next offset to apply; `watermark` the newest accepted event time, microseconds."""

    next_offset: int = 0
    accepted: int = 0
    redelivered: int = 0
    quarantined: int = 0
    watermark: int | None = None


def _row_of(stream: str, partition: int) -> str:
    return stream if partition == 0 else f"{stream}@{partition}"


def position(ctx: Context, stream: str, partition: int = 0) -> StreamPosition:
    """The stored position, zeros for a partition of which nothing was applied."""
    table = STREAM_POSITIONS
    columns = [table.c.next_offset, table.c.accepted, table.c.redelivered, table.c.quarantined, table.c.watermark]
    own = (table.c.system == ctx.system) & (table.c.stream == _row_of(stream, partition))
    with ctx.catalog.reading() as connection:
        row = connection.execute(select(*columns).where(own)).first()
    return StreamPosition() if row is None else StreamPosition(*row)


def positions(ctx: Context, spec: StreamSpec) -> list[StreamPosition]:
    """The position of each partition."""
    return [position(ctx, spec.name, partition) for partition in range(spec.partitions)]


def watermark(ctx: Context, stream: str) -> int | None:
    """The event time up to which the stream is known: the newest accepted one, of several partitions the oldest of those
    that have something to apply yet."""
    spec = ctx.specs.get(StreamSpec, stream)
    topic, applied = ctx.namespace.stream(stream), positions(ctx, spec)
    behind = [at.watermark for p, at in enumerate(applied) if at.next_offset < ctx.events.end(topic, p)]
    if len(applied) > 1 and behind:
        return None if None in behind else min(time for time in behind if time is not None)
    return max((at.watermark for at in applied if at.watermark is not None), default=None)


def advance(ctx: Context, stream: str, partition: int, before: StreamPosition, after: StreamPosition) -> None:
    """Store the position. Fenced when it is not `before` any more: another process applies the partition."""
    table = STREAM_POSITIONS
    values = asdict(after)
    own = (table.c.system == ctx.system) & (table.c.stream == _row_of(stream, partition))
    with ctx.catalog.transaction() as connection:
        same = own & (table.c.next_offset == before.next_offset)
        if connection.execute(table.update().where(same).values(**values)).rowcount:
            return
        found = connection.execute(select(table.c.next_offset).where(own)).scalar()
        if found is not None or before.next_offset:
            raise Fenced(
                f"partition {partition} of stream `{stream}` was applied up to {found} elsewhere, not {before.next_offset}",
                hint="another process has taken over; it goes on there",
            )
        connection.execute(table.insert().values(system=ctx.system, stream=_row_of(stream, partition), **values))


def check_logs(ctx: Context) -> None:
    """CheckFailed when the log of a stream ends before what was applied of it: events are lost, and new ones would take
    their offsets and pass for applied. Also when it has another number of partitions than declared: keys would change
    theirs."""
    topics = ctx.events.topics()
    for spec in ctx.specs.all(StreamSpec):
        found = topics.get(ctx.namespace.stream(spec.name), spec.partitions)
        if found != spec.partitions:
            raise CheckFailed(
                f"{spec.where}: stream `{spec.name}` declares {spec.partitions} partitions, its log has {found}",
                hint=f"declare partitions={found}, or read the events into a stream of another name",
            )
        for partition, at in enumerate(positions(ctx, spec)):
            if at.next_offset and ctx.events.end(ctx.namespace.stream(spec.name), partition) < at.next_offset:
                raise _lost(ctx, spec.name, partition, at.next_offset)


def _lost(ctx: Context, stream: str, partition: int, applied: int) -> CheckFailed:
    end = ctx.events.end(ctx.namespace.stream(stream), partition)
    where = f"stream `{stream}`" if partition == 0 else f"partition {partition} of stream `{stream}`"
    return CheckFailed(
        f"the log of {where} ends at offset {end}, but was applied up to {applied}: events are lost",
        hint="restore the data folder from a backup: `headrace restore`",
    )
