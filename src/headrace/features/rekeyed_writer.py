"""Applying one partition of a re-keyed topic to one view: what comes again is dropped, what is missing is taken from the
history. Each write has the state of its keys and the vector of the view in one transaction, fenced by the partition."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import polars as pl

from headrace.data.fencing import Fence
from headrace.data.history import history
from headrace.data.positions import position
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import CHUNK, ViewWriter
from headrace.features.rekeyed_state import AppliedVector
from headrace.features.rekeying import Passed
from headrace.features.report_index import Changes
from headrace.features.routes import route_of
from headrace.features.state import StateLayout
from headrace.features.types import StoredView
from headrace.features.waiting_reports import WaitingReports
from headrace.features.words import with_id_words
from headrace.kernel.errors import Fenced
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of, partition_of

NO_GUARD = -1
"""The states have no guards of their own: they are written together with the vector."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record of the topic: its offset, its header, and its events, None for none."""

    offset: int
    passed: Passed
    frame: pl.DataFrame | None


class RekeyedWriter(ViewWriter):
    """The state of one view, of the keys of one partition of its topic."""

    interleaved = True

    def __init__(self, ctx: Context, view: StoredView, partition: int, fence: Fence) -> None:
        layout = StateLayout(view, ctx.specs.get(StreamSpec, view.stream), ctx.namespace)
        super().__init__(ctx.online, layout, partition)
        self._ctx = ctx
        self._fence = fence
        self.partition = partition
        self.stopped = threading.Event()
        """Once set, a write raises Fenced."""
        on_id = view.join is not None and view.join.on == layout.stream.id
        self._waiting = WaitingReports(ctx, layout, partition) if on_id and not view.own_event else None
        self.route = route_of(view, ctx.specs)
        self.at = AppliedVector.unpack(ctx.online.get(self._applied_key), self.route)

    def take(self, records: Sequence[Arrived], most: float = inf) -> bool:
        """Apply the records that are new to the view, in order. What is missing before one of them is taken from the history;
        of a history of more than `most` events nothing is taken: False, and that record is the next."""
        view = self.layout.view
        reached = {name: list(ends) for name, ends in self.at.streams.items()}
        fresh: dict[bool, list[pl.DataFrame]] = {False: [], True: []}
        for offset, passed, frame in ((r.offset, r.passed, r.frame) for r in records if r.offset >= self.at.next):
            if passed.report and (view.join is None or view.join.report != passed.stream):
                continue
            source, ends = partition_of(passed.after), reached[passed.stream]
            if passed.after > ends[source] + 1:
                self._write(fresh, reached, offset)
                if self._history_events() > most:
                    return False
                self._catch_up()
                reached = {name: list(ends) for name, ends in self.at.streams.items()}
                fresh, ends = {False: [], True: []}, reached[passed.stream]
                if passed.after > ends[source] + 1:
                    LOG.warning("view.record_ahead", view=view.name, stream=passed.stream, first=passed.after)
                    continue  # the log was set back: what leads to it will be applied and passed on again
            if passed.end - 1 > ends[source]:
                if frame is not None:
                    fresh[passed.report].append(frame.filter(pl.col("_offset") > ends[source]))
                ends[source] = passed.end - 1
        if records and records[-1].offset >= self.at.next:
            self._write(fresh, reached, records[-1].offset + 1)
        return True

    def _write(self, fresh: Mapping[bool, Sequence[pl.DataFrame]], reached: Mapping[str, list[int]], next: int) -> None:
        """Events before their reports, each with its part of the vector; `next` with the last."""
        view = self.layout.view
        streams = dict(self.at.streams)
        if view.join is not None and fresh[True]:
            streams[view.stream] = reached[view.stream]
            self._write_events(fresh[False], replace(self.at, streams=streams))
            self._write_reports(fresh[True], AppliedVector(next, self.at.watermark, dict(reached)))
        else:
            self._write_events(fresh[False], AppliedVector(next, self.at.watermark, dict(reached)))

    def _write_events(self, frames: Sequence[pl.DataFrame], after: AppliedVector) -> None:
        changes: Changes = {}
        if frames:
            frame = pl.concat(frames)
            if self.layout.tells_own:
                frame = with_id_words(frame, self.layout.stream.id)
            changes, watermark = self.event_changes(frame, np.ones(len(frame), bool), after.watermark, NO_GUARD)
            after = replace(after, watermark=watermark)
        self._store(changes, after)

    def _write_reports(self, frames: Sequence[pl.DataFrame], after: AppliedVector) -> None:
        view, reports = self.layout.view, pl.concat(frames)
        assert view.join is not None
        time = self._ctx.specs.get(StreamSpec, view.join.report).time
        if self._waiting is not None:
            reports = self._waiting.unsettled(reports, self.at.streams[view.stream])
        changes = self.report_changes(reports, time, NO_GUARD)
        if self._waiting is not None:
            changes |= self._waiting.listed(reports, changes)
        self._store(changes, after)

    def settle(self) -> None:
        """Forget of the reports that wait some whose events are under another `by`."""
        if self._waiting is not None:
            self._waiting.settle(self.at.streams[self.layout.view.stream], self._fence)

    def _store(self, changes: Changes, after: AppliedVector) -> None:
        if self.stopped.is_set():
            raise Fenced("the view is not built here any more", hint="whoever has the partition now goes on")
        self._fence.write({**changes, self._applied_key: after.pack()})
        self.at = after

    def _ends(self) -> dict[str, list[int]]:
        """Up to where each partition of the streams is applied now."""
        return {
            name: [base_of(part) + position(self._ctx, name, part).next_offset for part in range(count)]
            for name, count in self.route.sources.items()
        }

    def _history_events(self) -> int:
        return sum(end - base_of(part) for ends in self._ends().values() for part, end in enumerate(ends))

    def _catch_up(self) -> None:
        """Take what the topic does not have, or not any more, from the history: up to what the streams are applied now."""
        view, ends = self.layout.view, self._ends()
        LOG.info("view.rebuilding", view=view.name, partition=self.partition, after=self.at.positions, upto=ends)
        events = history(self._ctx, view.stream)
        if view.by:
            events = events.drop_nulls(view.by)
        events = events.filter(pl.Series(self.route.partitions_of(events) == self.partition, dtype=pl.Boolean))
        self._replay(view.stream, events, ends[view.stream])
        if view.join is not None:
            self._replay(view.join.report, history(self._ctx, view.join.report), ends[view.join.report])

    def _replay(self, stream: str, frame: pl.DataFrame, ends: Sequence[int]) -> None:
        """Apply the events of each partition from the vector up to `ends`."""
        report = stream != self.layout.view.stream
        write = self._write_reports if report else self._write_events
        for source, end in enumerate(ends):
            own = frame.filter(pl.col("_offset").is_between(self.at.streams[stream][source] + 1, end, "left"))
            for first in range(0, len(own), CHUNK):
                part = own[first : first + CHUNK]
                write([part], self._reaching(stream, source, int(part["_offset"][-1])))
            if end - 1 > self.at.streams[stream][source]:
                self._store({}, self._reaching(stream, source, end - 1))

    def _reaching(self, stream: str, source: int, last: int) -> AppliedVector:
        positions = list(self.at.streams[stream])
        positions[source] = last
        return replace(self.at, streams={**self.at.streams, stream: positions})
