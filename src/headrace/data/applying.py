"""Applying a stream: decode by contract, drop redeliveries, quarantine what is bad, hand the rest to the sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from headrace.data import quarantine
from headrace.data.history import history
from headrace.data.identities import IdentityIndex
from headrace.data.positions import StreamPosition, position, store_position
from headrace.data.records import decode_records
from headrace.data.types import StreamSpec, Violation
from headrace.engines.context import Context
from headrace.kernel.log import LOG


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """Accepted events of one step in offset order (`records.event_schema`), possibly none; everything before
    `next_offset` is applied with it."""

    stream: str
    frame: pl.DataFrame
    next_offset: int


Sink = Callable[[AppliedBatch], None]
"""Takes each batch in order. A step that was interrupted is done again: a sink skips what it holds by its own offset."""


class StreamApplier:
    """One per stream at a time. A step may be killed at any point; done again it decides the same and doubles nothing:
    events are judged by the clock at their arrival, the quarantine topic and the index of ids tell what is done."""

    def __init__(self, ctx: Context, spec: StreamSpec, sinks: Sequence[Sink]) -> None:
        self._ctx = ctx
        self._spec = spec
        self._sinks = sinks
        self._topic = ctx.namespace.stream(spec.name)
        self._index = IdentityIndex(ctx, spec)
        self._position = position(ctx, spec.name)
        self._decided = {o for o in quarantine.refused_offsets(ctx, spec.name) if o >= self._position.next_offset}
        if self._index.next_offset() < self._position.next_offset:
            LOG.info("stream.rebuilding_ids", stream=spec.name, upto=self._position.next_offset)
            self._index.rebuild(history(ctx, spec.name), self._position.next_offset)

    def step(self, max_records: int = 65_536) -> int:
        """Apply the next records of the log; returns their number, 0 at the end."""
        records = self._ctx.events.read(self._topic, 0, self._position.next_offset, max_records=max_records)
        if not records.values:
            return 0
        self._ctx.events.append(self._topic, 0, [], sync=True)  # what is applied must not be lost to a power failure
        frame, refused = decode_records(self._spec, records)
        if self._decided:
            frame = frame.filter(~pl.col("_offset").is_in(list(self._decided)))
        identified = self._index.identify(frame)
        conflicts = frame.filter(pl.Series(identified.conflicting))
        refused += zip(conflicts["_offset"].to_list(), self._conflicts(conflicts), strict=True)
        fresh = sorted((pair for pair in refused if pair[0] not in self._decided), key=lambda pair: pair[0])
        quarantine.add(self._ctx, self._spec, records, fresh)
        refused_count = len(fresh) + sum(1 for offset in self._decided if offset < records.next)
        self._decided = {offset for offset in self._decided if offset >= records.next}
        self._index.store(identified.entries, records.next)
        accepted = frame.filter(pl.Series(identified.accepted))
        for sink in self._sinks:
            sink(AppliedBatch(self._spec.name, accepted, records.next))
        self._advance(accepted, int(identified.redelivered.sum()), refused_count, records.next)
        return len(records)

    def _conflicts(self, frame: pl.DataFrame) -> list[Violation]:
        ids = frame[self._spec.id].to_physical().to_list()
        return [Violation(self._spec.id, quarantine.OTHER_CONTENT, str(value)) for value in ids]

    def _advance(self, accepted: pl.DataFrame, redelivered: int, refused: int, next_offset: int) -> None:
        before = self._position
        newest = accepted[self._spec.time].to_physical().max()
        known = [time for time in (before.watermark, newest) if isinstance(time, int)]
        self._position = StreamPosition(
            next_offset, before.accepted + accepted.height, before.redelivered + redelivered,
            before.quarantined + refused, max(known, default=None),
        )  # fmt: skip
        store_position(self._ctx, self._spec.name, self._position)
