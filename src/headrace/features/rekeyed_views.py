"""Applying one partition of the re-keyed topics: each record to all views of its topic, beside those that are built yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.data.applying import AppliedBatch
from headrace.data.fencing import Fence
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import CHUNK
from headrace.features.rekeyed_building import NEAR, BuildingView
from headrace.features.rekeyed_writer import Arrived, RekeyedWriter
from headrace.features.rekeying import Forwarder, decode_events, decode_header
from headrace.features.routes import RekeyedTopic, rekeyed_topics
from headrace.features.types import StoredView

RECORDS = 1024
RETAIN_RECORDS = 4096
"""After so many records the topic drops what all its views have applied."""
FAR_BEHIND = 262_144
"""Events of a history that are read between two steps for a view that lacks some; of more, it is built meanwhile."""


class RekeyedReader:
    """One partition of a topic, for all its views."""

    def __init__(self, ctx: Context, topic: RekeyedTopic, partition: int, fence: Fence, far_behind: int) -> None:
        self._ctx = ctx
        self._name = topic.name
        self._partition = partition
        self._fence = fence
        self._far_behind = far_behind
        self._writers: list[RekeyedWriter] = []
        self._building: list[BuildingView] = []
        self._needed: frozenset[str] = frozenset()
        self._unretained = 0
        ctx.events.create(topic.name, topic.route.partitions)
        self.need(topic.views)

    def need(self, views: Sequence[StoredView]) -> None:
        """Apply these from here on. One that is built is built to its end, whether or not it is needed then: of two writers of
        one state each would count what both have."""
        self._needed = frozenset(view.definition_hash for view in views)
        self._writers = [writer for writer in self._writers if writer.layout.view.definition_hash in self._needed]
        all_writers = [*self._writers, *(building.writer for building in self._building)]
        known = {writer.layout.view.definition_hash for writer in all_writers}
        self._writers += [self._writer(view) for view in views if view.definition_hash not in known]
        furthest = max((writer.at.next for writer in self._writers), default=0)
        for writer in [writer for writer in self._writers if writer.at.next < furthest - NEAR]:
            self._build(writer)

    def _writer(self, view: StoredView) -> RekeyedWriter:
        writer = RekeyedWriter(self._ctx, view, self._partition, self._fence)
        if (
            writer.at.next > self._end()
        ):  # a power failure took its end: what is there now comes again, or shows what is missing
            writer.at = replace(writer.at, next=0)
        return writer

    def _end(self) -> int:
        return self._ctx.events.end(self._name, self._partition)

    def _build(self, writer: RekeyedWriter) -> None:
        self._writers.remove(writer)
        self._building.append(BuildingView(writer, self._read, self._end))

    @property
    def idle(self) -> bool:
        return not self._writers and not self._building

    def step(self) -> int:
        """Apply the next records of the topic; returns their number, 0 at the end. Fenced as a sink."""
        self._take_over()
        if not self._writers:
            return 0
        records = self._read(min(writer.at.next for writer in self._writers))
        for writer in list(self._writers):
            if not writer.take(records, self._far_behind):
                self._build(writer)
        self._unretained += len(records)
        if self._unretained >= RETAIN_RECORDS:
            self.retain()
        return len(records)

    def _take_over(self) -> None:
        """Apply here what has been built. What failed in its thread is raised, and tried again by the next step."""
        for building in [building for building in self._building if building.ended]:
            self._building.remove(building)
            writer, error = building.writer, building.error
            if writer.layout.view.definition_hash in self._needed:
                self._writers.append(writer if error is None else self._writer(writer.layout.view))
            if error is not None:
                raise error

    def _read(self, first: int) -> list[Arrived]:
        """The next records from an offset on, as many as are applied at once."""
        events = self._ctx.events
        found = events.read(
            self._name, self._partition, max(first, events.first(self._name, self._partition)), max_records=RECORDS
        )
        records: list[Arrived] = []
        rows = 0
        for offset, (header, value) in enumerate(zip(found.headers, found.values, strict=True), found.first):
            passed = decode_header(header)
            if rows and rows + passed.rows > CHUNK:
                break
            rows += passed.rows
            spec = self._ctx.specs.get(StreamSpec, passed.stream)
            records.append(Arrived(offset, passed, decode_events(spec, value) if value else None))
        return records

    def retain(self) -> None:
        """Let whole segments of the topic go that every view has applied, those that are built too; and reports whose events
        are elsewhere."""
        if self._unretained:
            for writer in self._writers:
                writer.settle()
        nexts = [writer.at.next for writer in [*self._writers, *(building.writer for building in self._building)]]
        if self._unretained and (keep_from := min(nexts, default=0)):
            self._ctx.events.retain(self._name, self._partition, keep_from, max_bytes=0)
        self._unretained = 0

    def stop(self) -> list[BuildingView]:
        """Build no more; returns what may take a moment to end."""
        for building in self._building:
            building.stop()
        return self._building


class Rekeying:
    """What one partition number has to do with re-keyed topics: pass the events of its streams on, and apply its partition of
    the topics of `views`, of which those are left out that are not re-keyed. `fences` of the streams in that partition."""

    def __init__(self, ctx: Context, views: Sequence[StoredView], partition: int, fences: Mapping[str, Fence],
                 *, far_behind: int = FAR_BEHIND) -> None:  # fmt: skip
        self._ctx = ctx
        self._partition = partition
        self._fences = fences
        self._far_behind = far_behind
        self._hashes: set[str] = set()
        self._forwarders: dict[str, Forwarder] = {}
        self._readers: dict[str, RekeyedReader] = {}
        self.need(views)

    def need(self, views: Sequence[StoredView]) -> None:
        """Apply these from here on; called between two steps. What a new one lacks is taken from the history."""
        ctx, partition = self._ctx, self._partition
        topics = rekeyed_topics(views, ctx.specs, ctx.namespace)
        hashes = {view.definition_hash for topic in topics for view in topic.views}
        if hashes == self._hashes:
            return
        self._hashes = hashes
        specs = [ctx.specs.get(StreamSpec, name) for name in self._fences]
        self._forwarders = {spec.name: Forwarder(ctx, spec, partition, topics) for spec in specs}
        own = {topic.name: topic for topic in topics if topic.route.partitions > partition}
        for name, reader in self._readers.items():
            reader.need(own[name].views if name in own else ())
        for name in own.keys() - self._readers.keys():
            fence = self._fences[own[name].stream]
            self._readers[name] = RekeyedReader(ctx, own[name], partition, fence, self._far_behind)
        self._readers = {name: reader for name, reader in self._readers.items() if name in own or not reader.idle}

    def sink(self, batch: AppliedBatch) -> None:
        """Pass the batch on; before the position in the catalog advances."""
        if self._forwarders:
            self._forwarders[batch.stream](batch)

    def step(self) -> int:
        """Apply what has been passed on; the number of records. Fenced when the partition is another process's."""
        return sum(reader.step() for reader in self._readers.values())

    def flush(self) -> None:
        for reader in self._readers.values():
            reader.retain()

    def stop(self) -> list[BuildingView]:
        """Build no more; returns what may take a moment to end."""
        return [building for reader in self._readers.values() for building in reader.stop()]
