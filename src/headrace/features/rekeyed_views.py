"""Applying one partition of a re-keyed topic to its views: what comes again is dropped, what is missing is taken from the
history. Each write has the state of its keys and the vector of the view in one transaction, fenced by the partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from headrace.data.applying import AppliedBatch
from headrace.data.fencing import Fence
from headrace.data.history import history
from headrace.data.positions import position
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import CHUNK, ViewWriter
from headrace.features.rekeyed_state import AppliedVector
from headrace.features.rekeying import Forwarder, Passed, decode_events, decode_header
from headrace.features.report_index import Changes
from headrace.features.routes import RekeyedTopic, rekeyed_topics, route_of
from headrace.features.state import StateLayout
from headrace.features.types import StoredView
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of, partition_of

RECORDS = 1024
RETAIN_RECORDS = 4096
"""After so many records the topic drops what all its views have applied."""
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
        self._partition = partition
        self.route = route_of(view, ctx.specs)
        self.at = AppliedVector.unpack(ctx.online.get(self._applied_key), self.route)

    def take(self, records: Sequence[Arrived]) -> None:
        """Apply the records that are new to the view, in order."""
        view = self.layout.view
        reached = {name: list(ends) for name, ends in self.at.streams.items()}
        fresh: dict[bool, list[pl.DataFrame]] = {False: [], True: []}
        for offset, passed, frame in ((r.offset, r.passed, r.frame) for r in records if r.offset >= self.at.next):
            if passed.report and (view.join is None or view.join.report != passed.stream):
                continue
            source, ends = partition_of(passed.after), reached[passed.stream]
            if passed.after > ends[source] + 1:
                self._write(fresh, reached, offset)
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
            changes, watermark = self.event_changes(frame, np.ones(len(frame), bool), after.watermark, NO_GUARD)
            after = replace(after, watermark=watermark)
        self._store(changes, after)

    def _write_reports(self, frames: Sequence[pl.DataFrame], after: AppliedVector) -> None:
        assert self.layout.view.join is not None
        time = self._ctx.specs.get(StreamSpec, self.layout.view.join.report).time
        self._store(self.report_changes(pl.concat(frames), time, NO_GUARD), after)

    def _store(self, changes: Changes, after: AppliedVector) -> None:
        self._fence.write({**changes, self._applied_key: after.pack()})
        self.at = after

    def _catch_up(self) -> None:
        """Take what the topic does not have, or not any more, from the history: up to what the streams are applied now."""
        view = self.layout.view
        ends = {
            name: [base_of(part) + position(self._ctx, name, part).next_offset for part in range(count)]
            for name, count in self.route.sources.items()
        }
        LOG.info("view.rebuilding", view=view.name, partition=self._partition, after=self.at.positions, upto=ends)
        events = history(self._ctx, view.stream)
        if view.by:
            events = events.drop_nulls(view.by)
        events = events.filter(pl.Series(self.route.partitions_of(events) == self._partition, dtype=pl.Boolean))
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


class RekeyedReader:
    """One partition of a topic, for all its views."""

    def __init__(self, ctx: Context, topic: RekeyedTopic, partition: int, fence: Fence) -> None:
        self._ctx = ctx
        self._topic = topic
        self._partition = partition
        self._writers = [RekeyedWriter(ctx, view, partition, fence) for view in topic.views]
        self._unretained = 0
        ctx.events.create(topic.name, topic.route.partitions)
        end = ctx.events.end(topic.name, partition)
        for writer in self._writers:
            if writer.at.next > end:  # a power failure took its end: what is there now comes again, or shows what is missing
                writer.at = replace(writer.at, next=0)

    @property
    def _next(self) -> int:
        return min(writer.at.next for writer in self._writers)

    def step(self) -> int:
        """Apply the next records of the topic; returns their number, 0 at the end. Fenced as a sink."""
        events, name = self._ctx.events, self._topic.name
        first = max(self._next, events.first(name, self._partition))
        found = events.read(name, self._partition, first, max_records=RECORDS)
        records: list[Arrived] = []
        rows = 0
        for offset, (header, value) in enumerate(zip(found.headers, found.values, strict=True), found.first):
            passed = decode_header(header)
            if rows and rows + passed.rows > CHUNK:
                break
            rows += passed.rows
            spec = self._ctx.specs.get(StreamSpec, passed.stream)
            records.append(Arrived(offset, passed, decode_events(spec, value) if value else None))
        for writer in self._writers:
            writer.take(records)
        self._unretained += len(records)
        if self._unretained >= RETAIN_RECORDS:
            self.retain()
        return len(records)

    def retain(self) -> None:
        """Let whole segments of the topic go that every view has applied."""
        if self._unretained and self._next:
            self._ctx.events.retain(self._topic.name, self._partition, self._next, max_bytes=0)
        self._unretained = 0


class Rekeying:
    """What one partition number has to do with re-keyed topics: pass the events of its streams on, and apply its partition of
    the topics of `views`, of which those are left out that are not re-keyed. `fences` of the streams in that partition."""

    def __init__(self, ctx: Context, views: Sequence[StoredView], partition: int, fences: Mapping[str, Fence]) -> None:
        self._ctx = ctx
        self._partition = partition
        self._fences = fences
        self._hashes: set[str] = set()
        self._forwarders: dict[str, Forwarder] = {}
        self._readers: list[RekeyedReader] = []
        self.need(views)

    def need(self, views: Sequence[StoredView]) -> None:
        """Apply these from here on, between two steps: what a new one lacks is taken from the history."""
        ctx, partition = self._ctx, self._partition
        topics = rekeyed_topics(views, ctx.specs, ctx.namespace)
        hashes = {view.definition_hash for topic in topics for view in topic.views}
        if hashes == self._hashes:
            return
        self._hashes = hashes
        specs = [ctx.specs.get(StreamSpec, name) for name in self._fences]
        self._forwarders = {spec.name: Forwarder(ctx, spec, partition, topics) for spec in specs}
        own = [topic for topic in topics if topic.route.partitions > partition]
        self._readers = [RekeyedReader(ctx, topic, partition, self._fences[topic.stream]) for topic in own]

    def sink(self, batch: AppliedBatch) -> None:
        """Pass the batch on; before the position in the catalog advances."""
        if self._forwarders:
            self._forwarders[batch.stream](batch)

    def step(self) -> int:
        """Apply what has been passed on; the number of records. Fenced when the partition is another process's."""
        return sum(reader.step() for reader in self._readers)

    def flush(self) -> None:
        for reader in self._readers:
            reader.retain()
