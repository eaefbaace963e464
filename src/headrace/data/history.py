"""The accepted events of a stream: from the lake and the tail of the log, or from the log alone.

In frames `_offset` is the position (`kernel/partitions.py`); lake rows have `_partition` and the offset within it.
"""

from __future__ import annotations

import polars as pl

from headrace.data.positions import position
from headrace.data.quarantine import refused_offsets
from headrace.data.recalling import fill_later_fields
from headrace.data.records import decode_records, event_schema
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.partitions import OFFSET_BITS, base_of, partition_of

LAKE_APPLICATION = "headrace.stream"
"""The lake application of partition 0 of a stream table; its version is the next position that the table does not hold."""


def table_of(ctx: Context, stream: str) -> str:
    return ctx.namespace.name("streams", stream)


def application_of(partition: int) -> str:
    """The lake application of a partition."""
    return LAKE_APPLICATION if partition == 0 else f"{LAKE_APPLICATION}.{partition}"


def history(ctx: Context, stream: str) -> pl.DataFrame:
    """All applied events, sorted by `_offset`: the declared columns, `_offset`, `_created` (Int64 microseconds)."""
    spec = ctx.specs.get(StreamSpec, stream)
    ends = [base_of(p) + position(ctx, stream, p).next_offset for p in range(spec.partitions)]
    held = [held_to(ctx, spec, p) for p in range(spec.partitions)]
    stored = lake_events(ctx, spec, held)
    parts = [stored]
    for first, end in zip(held, ends, strict=True):
        if first < end:
            parts.append(log_events(ctx, spec, first, end, stored[spec.id]))
    return stored if len(parts) == 1 else pl.concat(parts).sort("_offset")


def log_history(ctx: Context, stream: str, upto: int | None = None) -> pl.DataFrame:
    """As `history`, from the event log and the quarantine topic alone, to position `upto` inclusive or to the end. What
    retention has dropped of the log is taken from the lake."""
    spec = ctx.specs.get(StreamSpec, stream)
    topic = ctx.namespace.stream(stream)
    firsts, ends = [], []
    for partition in range(spec.partitions):
        base = base_of(partition)
        firsts.append(base + ctx.events.first(topic, partition))
        end = base + ctx.events.end(topic, partition)
        ends.append(end if upto is None else min(end, upto + 1))
    dropped = event_schema(spec).to_frame()
    if any(first > base_of(partition) for partition, first in enumerate(firsts)):
        dropped = lake_events(ctx, spec, [min(*pair) for pair in zip(firsts, ends, strict=True)])
    pairs = zip(firsts, ends, strict=True)
    parts = [log_events(ctx, spec, first, end, dropped[spec.id]) for first, end in pairs if first < end]
    return pl.concat([dropped, *parts]).sort("_offset")


def held_to(ctx: Context, spec: StreamSpec, partition: int = 0) -> int:
    """The position up to which (exclusive) the lake has every accepted event of the partition."""
    return max(base_of(partition), ctx.lake.committed(table_of(ctx, spec.name), application_of(partition)))


def lake_events(ctx: Context, spec: StreamSpec, held: list[int]) -> pl.DataFrame:
    """The events in the lake below the position `held` of each partition."""
    schema = event_schema(spec)
    if all(end == base_of(partition) for partition, end in enumerate(held)):
        return schema.to_frame()
    at = (pl.col("_partition").cast(pl.Int64) * (1 << OFFSET_BITS)) + pl.col("_offset")
    lazy = ctx.lake.scan(table_of(ctx, spec.name)).with_columns(at.alias("_offset"))
    lazy = lazy.filter(pl.any_horizontal(pl.col("_offset").is_between(base_of(p), end, "left") for p, end in enumerate(held)))
    absent = set(schema.names()) - set(lazy.collect_schema().names())
    frame = lazy.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(schema.names()).collect()
    return fill_later_fields(spec, frame.cast(schema)).sort("_offset")


def log_events(ctx: Context, spec: StreamSpec, first: int, end: int, known: pl.Series) -> pl.DataFrame:
    """The accepted events of one partition with positions `first` .. `end - 1`: not refused, and of each id the first;
    `known` are the ids before `first`. What is applied is decided: today's contract judges only what comes after."""
    decided = refused_offsets(ctx, spec.name)
    refused = pl.Series(list(decided), dtype=pl.Int64)
    topic, partition = ctx.namespace.stream(spec.name), partition_of(first)
    base = base_of(partition)
    applied = base + position(ctx, spec.name, partition).next_offset
    parts = [event_schema(spec).to_frame()]
    while first < end:
        records = ctx.events.read(topic, partition, first - base, max_records=min(65_536, end - first))
        if not records.values:
            break
        frame, _ = decode_records(spec, records, partition, accepted=lambda at: at < applied and at not in decided)
        parts.append(frame.filter(~pl.col("_offset").is_in(refused.implode())) if len(refused) else frame)
        first = base + records.next
    frame = pl.concat(parts).unique(spec.id, keep="first", maintain_order=True)
    if len(known):
        frame = frame.join(known.unique().to_frame(spec.id), on=spec.id, how="anti", maintain_order="left")
    return frame
