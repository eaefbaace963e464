"""The accepted events of a stream: from the lake and the tail of the log, or from the log alone."""

from __future__ import annotations

import polars as pl

from headrace.data.positions import position
from headrace.data.quarantine import refused_offsets
from headrace.data.records import decode_records, event_schema
from headrace.data.types import StreamSpec
from headrace.engines.context import Context

LAKE_APPLICATION = "headrace.stream"
"""The lake application of a stream table; its version is the next offset that the table does not hold."""


def table_of(ctx: Context, stream: str) -> str:
    return ctx.namespace.name("streams", stream)


def history(ctx: Context, stream: str) -> pl.DataFrame:
    """All applied events, sorted by `_offset`: the declared columns, `_offset`, `_created` (Int64 microseconds)."""
    spec = ctx.specs.get(StreamSpec, stream)
    applied = position(ctx, stream).next_offset
    stored, held = lake_events(ctx, spec)
    if held >= applied:
        return stored
    return pl.concat([stored, log_events(ctx, spec, held, applied, stored[spec.id])])


def log_history(ctx: Context, stream: str, upto: int | None = None) -> pl.DataFrame:
    """As `history`, from the event log and the quarantine topic alone, to offset `upto` inclusive or to the end. What
    retention has dropped of the log is taken from the lake."""
    spec = ctx.specs.get(StreamSpec, stream)
    topic = ctx.namespace.stream(stream)
    first, end = ctx.events.first(topic, 0), ctx.events.end(topic, 0)
    end = end if upto is None else min(end, upto + 1)
    if first == 0:
        return log_events(ctx, spec, 0, end, None)
    dropped = lake_events(ctx, spec)[0].filter(pl.col("_offset") < min(first, end))
    return pl.concat([dropped, log_events(ctx, spec, first, end, dropped[spec.id])])


def held_to(ctx: Context, spec: StreamSpec) -> int:
    """The offset up to which (exclusive) the lake has every accepted event."""
    return max(0, ctx.lake.committed(table_of(ctx, spec.name), LAKE_APPLICATION))


def lake_events(ctx: Context, spec: StreamSpec) -> tuple[pl.DataFrame, int]:
    """The events in the lake, and the offset up to which (exclusive) it is complete."""
    table, held = table_of(ctx, spec.name), held_to(ctx, spec)
    schema = event_schema(spec)
    if held == 0:
        return schema.to_frame(), 0
    lazy = ctx.lake.scan(table).filter(pl.col("_offset") < held)
    absent = set(schema.names()) - set(lazy.collect_schema().names())
    frame = lazy.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent).select(schema.names()).collect()
    return frame.cast(schema).sort("_offset"), held


def log_events(ctx: Context, spec: StreamSpec, first: int, end: int, known: pl.Series | None) -> pl.DataFrame:
    """The accepted events with offsets `first` .. `end - 1`: not refused, and of each id the first; `known` are the ids
    before `first`."""
    refused = pl.Series(list(refused_offsets(ctx, spec.name)), dtype=pl.Int64)
    topic = ctx.namespace.stream(spec.name)
    parts = [event_schema(spec).to_frame()]
    while first < end:
        records = ctx.events.read(topic, 0, first, max_records=min(65_536, end - first))
        if not records.values:
            break
        frame, _ = decode_records(spec, records)
        parts.append(frame.filter(~pl.col("_offset").is_in(refused.implode())) if len(refused) else frame)
        first = records.next
    frame = pl.concat(parts).unique(spec.id, keep="first", maintain_order=True)
    if known is not None and len(known):
        frame = frame.join(known.unique().to_frame(spec.id), on=spec.id, how="anti", maintain_order="left")
    return frame
