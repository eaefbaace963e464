"""The sink that keeps a stream's accepted events in the lake, exactly once."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

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
    """Buffers, and commits beside the events after `flush_rows` rows or 30 s, with the next position as the transaction
    version. What was buffered when the process died is taken from the log at the next start. After 64 commits, also of
    several starts, the sink of partition 0 merges the table's files and deletes those that were merged a day before. Fenced
    when another process has committed since."""

    def __init__(self, ctx: Context, spec: StreamSpec, partition: int = 0, *, flush_rows: int = FLUSH_ROWS) -> None:
        self._flush_rows = flush_rows
        self._lake = ctx.lake
        self._table = table_of(ctx, spec.name)
        self._partition = partition
        self._retained = spec.retention is not None or spec.retention_bytes is not None
        self._application = application_of(partition)
        self._committed = self._lake.committed(self._table, self._application)
        self._empty = event_schema(spec).to_frame()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lake")
        self._committing: tuple[Future[None], int, int] | None = None
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
        frame = batch.frame
        if frame.height and frame["_offset"][0] < self._next:
            frame = frame.filter(pl.col("_offset") >= self._next)
        if self._committing is not None and self._committing[0].done():
            self._settle()
        if len(self._buffer) == (0 if self._committing is None else self._committing[1]):
            self._since = MACHINE.monotonic()
        self._buffer.append(frame)
        self._rows += frame.height
        self._next = batch.next_offset
        if self._rows >= self._flush_rows or MACHINE.monotonic() - self._since >= FLUSH_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Commit what is buffered, nothing when nothing is, in a thread of its own: meanwhile events go on into the online
        state. It waits for the commit before and raises what that raised, and what that held is committed again. Of refused
        events alone a long run is a commit, and any of a stream with a retention: its log is dropped up to what is
        committed."""
        self._settle()
        if self._next <= self._held:
            return
        frames, self._rows = list(self._buffer), 0
        if any(map(len, frames)) or self._retained or self._next - self._held >= self._flush_rows:
            self._committing = self._thread.submit(self._append, frames, self._next), len(frames), self._next
        else:
            self._buffer.clear()

    def flush(self) -> None:
        """As `commit`, and wait for it."""
        self.commit()
        self._settle()

    def close(self) -> None:
        """Wait for the commit that is under way, whatever becomes of it; what is buffered stays in the log alone."""
        self._thread.shutdown()

    def _settle(self) -> None:
        """Wait for the commit that is under way."""
        if self._committing is None:
            return
        (done, frames, upto), self._committing = self._committing, None
        done.result()
        self._held = upto
        del self._buffer[:frames]

    def _append(self, frames: list[pl.DataFrame], upto: int) -> None:
        frame = pl.concat([self._empty, *frames])
        offset = pl.col("_offset") - base_of(self._partition)
        placed = frame.with_columns(offset, pl.lit(self._partition, pl.Int32).alias("_partition"))
        self._lake.append(self._table, placed, application=self._application, version=upto, after=self._committed)
        self._committed = upto
        self._commits += 1
        if self._commits >= COMPACT_COMMITS and self._partition == 0:
            self._lake.compact(self._table)
            self._lake.vacuum(self._table, hours=VACUUM_HOURS)
            self._commits = 0
