"""The sink that keeps a stream's accepted events in the lake, exactly once."""

from __future__ import annotations

import polars as pl

from headrace.data.applying import AppliedBatch
from headrace.data.history import LAKE_APPLICATION, held_to, lake_events, log_events, table_of
from headrace.data.positions import position
from headrace.data.records import event_schema
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.log import LOG

FLUSH_ROWS = 262_144
FLUSH_SECONDS = 30.0
COMPACT_COMMITS = 64


class LakeSink:
    """Buffers and commits after `flush_rows` rows or 30 s, with the next offset as the transaction version. What was buffered
    when the process died is taken from the log at the next start."""

    def __init__(self, ctx: Context, spec: StreamSpec, *, flush_rows: int = FLUSH_ROWS) -> None:
        self._flush_rows = flush_rows
        self._lake = ctx.lake
        self._table = table_of(ctx, spec.name)
        self._empty = event_schema(spec).to_frame()
        self._buffer: list[pl.DataFrame] = []
        self._rows = 0
        self._since = 0.0
        self._commits = 0
        self._held = held_to(ctx, spec)
        self._next = self._held
        applied = position(ctx, spec.name).next_offset
        if self._held < applied:
            LOG.info("lake.catching_up", stream=spec.name, first=self._held, upto=applied)
            stored, held = lake_events(ctx, spec)
            self(AppliedBatch(spec.name, log_events(ctx, spec, held, applied, stored[spec.id]), applied))
            self.flush()

    def __call__(self, batch: AppliedBatch) -> None:
        if batch.next_offset <= self._next:
            return
        frame = batch.frame.filter(pl.col("_offset") >= self._next)
        if not self._buffer:
            self._since = MACHINE.monotonic()
        self._buffer.append(frame)
        self._rows += frame.height
        self._next = batch.next_offset
        if self._rows >= self._flush_rows or MACHINE.monotonic() - self._since >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what is buffered; nothing when nothing is (a long run of refused events is a commit too)."""
        if self._next <= self._held:
            return
        frame = pl.concat(self._buffer) if self._buffer else self._empty
        if frame.height or self._next - self._held >= self._flush_rows:
            placed = frame.with_columns(pl.lit(0, pl.Int32).alias("_partition"))
            self._lake.append(self._table, placed, application=LAKE_APPLICATION, version=self._next)
            self._commits += 1
            self._held = self._next
        self._buffer, self._rows = [], 0
        if self._commits >= COMPACT_COMMITS:
            self._lake.compact(self._table)
            self._commits = 0
