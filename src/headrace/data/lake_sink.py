"""The sink that keeps a stream's accepted events in the lake, exactly once."""

from __future__ import annotations

import polars as pl

from headrace.data.applying import AppliedBatch
from headrace.data.history import application_of, held_to, lake_events, log_events, table_of
from headrace.data.positions import position
from headrace.data.records import event_schema
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of

FLUSH_ROWS = 262_144
FLUSH_SECONDS = 30.0
COMPACT_COMMITS = 64
VACUUM_HOURS = 24
"""For so long whoever reads the table may hold files that a compaction has replaced."""


class LakeSink:
    """Buffers and commits after `flush_rows` rows or 30 s, with the next position as the transaction version. What was buffered
    when the process died is taken from the log at the next start. After 64 commits, also of several starts, the sink of
    partition 0 merges the table's files and deletes those that were merged a day before. Fenced when another process has
    committed since."""

    def __init__(self, ctx: Context, spec: StreamSpec, partition: int = 0, *, flush_rows: int = FLUSH_ROWS) -> None:
        self._flush_rows = flush_rows
        self._lake = ctx.lake
        self._table = table_of(ctx, spec.name)
        self._partition = partition
        self._retained = spec.retention is not None or spec.retention_bytes is not None
        self._application = application_of(partition)
        self._committed = self._lake.committed(self._table, self._application)
        self._empty = event_schema(spec).to_frame()
        self._buffer: list[pl.DataFrame] = []
        self._rows = 0
        self._since = 0.0
        self._commits = self._lake.uncompacted(self._table, limit=COMPACT_COMMITS) if partition == 0 else 0
        self._held = max(base_of(partition), self._committed)
        self._next = self._held
        applied = base_of(partition) + position(ctx, spec.name, partition).next_offset
        if self._held < applied:
            LOG.info("lake.catching_up", stream=spec.name, partition=partition, first=self._held, upto=applied)
            known = lake_events(ctx, spec, [held_to(ctx, spec, other) for other in range(spec.partitions)])[spec.id]
            self(AppliedBatch(spec.name, log_events(ctx, spec, self._held, applied, known), applied, partition))
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
        """Commit what is buffered, nothing when nothing is. Of refused events alone a long run is a commit, and any of a stream
        with a retention: its log is dropped up to what is committed."""
        if self._next <= self._held:
            return
        frame = pl.concat(self._buffer) if self._buffer else self._empty
        if frame.height or self._retained or self._next - self._held >= self._flush_rows:
            offset = pl.col("_offset") - base_of(self._partition)
            placed = frame.with_columns(offset, pl.lit(self._partition, pl.Int32).alias("_partition"))
            self._lake.append(self._table, placed, application=self._application, version=self._next, after=self._committed)
            self._commits += 1
            self._held = self._committed = self._next
        self._buffer, self._rows = [], 0
        if self._commits >= COMPACT_COMMITS and self._partition == 0:
            self._lake.compact(self._table)
            self._lake.vacuum(self._table, hours=VACUUM_HOURS)
            self._commits = 0
