"""Applying a stream: decode by contract, drop redeliveries, quarantine what is bad, hand the rest to the sinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from headrace.data import contract_results, quarantine
from headrace.data.contract import contract_of
from headrace.data.fencing import Fence
from headrace.data.frames import physical
from headrace.data.identities import Identified, IdentityIndex
from headrace.data.positions import StreamPosition, advance, position
from headrace.data.rebuilding import rebuild_lost
from headrace.data.records import decode_records
from headrace.data.types import StreamSpec, Violation
from headrace.data.uniqueness import UniqueIndex
from headrace.engines.context import Context
from headrace.engines.events.port import Records
from headrace.kernel.partitions import base_of


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """Accepted events of one step in offset order (`records.event_schema`), possibly none; everything of the partition
    before the position `next_offset` is applied with it. What is written online is fenced by `fence`."""

    stream: str
    frame: pl.DataFrame
    next_offset: int
    partition: int = 0
    fence: Fence | None = None


Sink = Callable[[AppliedBatch], None]
"""Takes each batch in order. A step that was interrupted is done again: a sink skips what it holds by its own offset."""


class StreamApplier:
    """The last one opened for a partition applies it; an earlier one is Fenced at its next step. A step may be killed at any
    point; done again it decides the same and doubles nothing: events are judged by the clock at their arrival, the
    quarantine topic and the index of ids tell what is done."""

    def __init__(
        self, ctx: Context, spec: StreamSpec, sinks: Sequence[Sink], partition: int = 0, *, fence: Fence | None = None
    ) -> None:
        self._ctx = ctx
        self._spec = spec
        self._sinks = sinks
        self._partition = partition
        self._base = base_of(partition)
        self._topic = ctx.namespace.stream(spec.name)
        self._fence = fence or Fence(ctx, spec.name, partition)
        self._index = IdentityIndex(ctx, spec, partition)
        self._position = position(ctx, spec.name, partition)
        first = self._base + self._position.next_offset
        self._decided = {o: rule for o, rule in quarantine.refused_offsets(ctx, spec.name).items() if o >= first}
        rebuild_lost(ctx, spec)
        self._unique = UniqueIndex(ctx, spec, partition)
        self._unique.rebuild_lost(first, self._fence)

    def step(self, max_records: int = 131_072) -> int:
        """Apply the next records of the log; returns their number, 0 at the end. Fenced when another process applies the
        partition: open it again if it is still assigned."""
        events = self._ctx.events
        records = events.read(self._topic, self._partition, self._position.next_offset, max_records=max_records)
        if not records.values:
            return 0
        events.append(self._topic, self._partition, [], sync=True)  # what is applied must not be lost to a power failure
        frame, refused = decode_records(self._spec, records, self._partition)
        end = self._base + records.next
        while True:
            frame = frame.filter(~pl.col("_offset").is_in(list(self._decided))) if self._decided else frame
            identified = self._index.identify(frame)
            if identified.conflicting.any():
                refused += self._conflicts(frame.filter(pl.Series(identified.conflicting)))
            accepted = frame if identified.accepted.all() else frame.filter(pl.Series(identified.accepted))
            repeated, warned = self._unique.examine(accepted)
            refused += repeated
            self._refuse(records, refused)
            if not repeated and self._index.store(identified, end, self._fence):
                break
            # Another partition has accepted one of these ids since it was looked up.
        self._unique.learn(end, self._fence)
        warned |= contract_of(self._spec).warnings(accepted)
        refusals = Counter(rule for offset, rule in self._decided.items() if self._base <= offset < end)
        contract_results.record(self._ctx, self._spec.name, end - len(records), len(records), refusals, warned)
        for sink in self._sinks:
            sink(AppliedBatch(self._spec.name, accepted, end, self._partition, self._fence))
        self._advance(accepted, identified, records)
        return len(records)

    def _refuse(self, records: Records, refused: Sequence[tuple[int, Violation]]) -> None:
        fresh = sorted((pair for pair in refused if pair[0] not in self._decided), key=lambda pair: pair[0])
        if fresh:
            self._fence.check()
            quarantine.add(self._ctx, self._spec, records, fresh, self._partition)
            self._decided.update((offset, violation.broken) for offset, violation in fresh)

    def _conflicts(self, frame: pl.DataFrame) -> list[tuple[int, Violation]]:
        pairs = zip(frame["_offset"].to_list(), physical(frame[self._spec.id]).to_list(), strict=True)
        return [(at, Violation(self._spec.id, quarantine.OTHER_CONTENT, str(value), "identity")) for at, value in pairs]

    def _advance(self, accepted: pl.DataFrame, identified: Identified, records: Records) -> None:
        before, end = self._position, self._base + records.next
        newest = physical(accepted[self._spec.time]).max()
        known = [time for time in (before.watermark, newest) if isinstance(time, int)]
        after = StreamPosition(
            records.next,
            before.accepted + accepted.height,
            before.redelivered + int(identified.redelivered.sum()),
            before.quarantined + sum(1 for offset in self._decided if self._base <= offset < end),
            max(known, default=None),
        )
        advance(self._ctx, self._spec.name, self._partition, before, after)
        self._position = after
        self._decided = {offset: rule for offset, rule in self._decided.items() if offset >= end}
