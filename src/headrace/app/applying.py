"""Applying the streams of a system: each process takes its share of the partitions and gives it up when it is paused."""

from __future__ import annotations

from collections.abc import Callable

from headrace.data.applying import AppliedBatch, Sink, StreamApplier
from headrace.data.fencing import Fence
from headrace.data.lake_sink import FLUSH_SECONDS, LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.events.port import Member
from headrace.features.arriving import ArrivingViews, lag
from headrace.features.materialise import OnlineViews
from headrace.features.rekeyed_building import BuildingView
from headrace.features.rekeyed_views import FAR_BEHIND, Rekeying
from headrace.features.routes import route_of
from headrace.features.types import StoredView
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Fenced
from headrace.kernel.log import LOG
from headrace.release.live import needed_views

GROUP = "appliers"
LEASE_SECONDS = 10.0
ASSIGN_SECONDS = 1.0
RENEW_SECONDS = 3.0
MAX_RECORDS = 131_072


class _Share:
    """One partition number of every stream and of every re-keyed topic that has so many: streams of one partition are joined,
    so one process applies them all."""

    def __init__(self, ctx: Context, views: list[StoredView], partition: int, far_behind: int) -> None:
        self._ctx, self._partition = ctx, partition
        direct = [view for view in views if not route_of(view, ctx.specs).rekeyed]
        near = [view for view in direct if lag(ctx, view, partition) <= far_behind]
        self._hashes = {view.definition_hash for view in near}
        self._online = OnlineViews(ctx, near)
        self._arriving: list[ArrivingViews] = []
        specs = [spec for spec in ctx.specs.all(StreamSpec) if spec.partitions > partition]
        self.streams = {spec.name for spec in specs}
        self._fences = {spec.name: Fence(ctx, spec.name, partition) for spec in specs}
        self._online.rebuild(partition, self._fences)
        self._lake = {spec.name: LakeSink(ctx, spec, partition) for spec in specs}
        self._rekeying = Rekeying(ctx, views, partition, self._fences, far_behind=far_behind)
        self._appliers = []
        for spec in specs:
            sinks: list[Sink] = [self._sink, self._rekeying.sink, self._lake[spec.name]]
            self._appliers.append(StreamApplier(ctx, spec, sinks, partition, fence=self._fences[spec.name]))
        self.need(views)

    def _sink(self, batch: AppliedBatch) -> None:
        self._online.sink(batch)
        for arriving in self._arriving:
            arriving.sink(batch)

    def need(self, views: list[StoredView]) -> None:
        """Keep these views from here on: the new ones are built meanwhile. Of those that are gone, what is applied straight
        from its stream goes on until the share is opened again."""
        self._rekeying.need(views)
        known = self._hashes.union(*(arriving.hashes for arriving in self._arriving))
        new = [view for view in views if view.definition_hash not in known and not route_of(view, self._ctx.specs).rekeyed]
        if new:
            self._arriving.append(ArrivingViews(self._ctx, new, self._partition, self._fences))
            self._arriving[-1].begin()

    def stop(self) -> list[ArrivingViews | BuildingView]:
        """Build no more; returns what may take a moment to end."""
        for arriving in self._arriving:
            arriving.stop()
        return [*self._arriving, *self._rekeying.stop()]

    def step(self, max_records: int) -> int:
        for arriving in self._arriving:
            arriving.at_boundary()
        return sum(applier.step(max_records) for applier in self._appliers) + self._rekeying.step()

    def commit(self) -> None:
        for sink in self._lake.values():
            sink.commit()
        self._rekeying.flush()

    def flush(self) -> None:
        for sink in self._lake.values():
            sink.flush()
        self._rekeying.flush()


class Applying:
    """The partitions that are assigned to this process, one after the other. `member` names it among the processes that
    apply the system; one that starts under the same name takes over at once. Opened at its first step: catching up after a
    crash must not hold up the pages. A view that lacks more than `far_behind` events, or a re-keyed one of a longer history, is
    built while the streams flow; another one before its first step."""

    def __init__(
        self, ctx: Context, member: str = "work", *, lease: float = LEASE_SECONDS, far_behind: int = FAR_BEHIND
    ) -> None:
        self._ctx = ctx
        self._name = member
        self._lease = lease
        self._far_behind = far_behind
        self._ending: list[ArrivingViews | BuildingView] = []
        self._member: Member | None = None
        self._generations: dict[int, int] = {}
        self._shares: dict[int, _Share] = {}
        self._assign_at = 0.0
        self._flush_at = 0.0

    def step(self, max_records: int = MAX_RECORDS) -> int:
        """Apply what has arrived, at most `max_records` of each partition; returns the number of records."""
        if MACHINE.monotonic() >= self._assign_at:
            self._assign()
        applied = 0
        for partition, share in list(self._shares.items()):
            try:
                applied += share.step(max_records)
            except Fenced as error:
                self._drop(partition, error)
        if MACHINE.monotonic() >= self._flush_at and not applied:
            self._to_lake(_Share.commit)
        return applied

    def flush(self) -> None:
        """Write to the lake what the sinks still hold."""
        self._to_lake(_Share.flush)

    def _to_lake(self, write: Callable[[_Share], None]) -> None:
        for partition, share in list(self._shares.items()):
            try:
                write(share)
            except Fenced as error:
                self._drop(partition, error)
        self._flush_at = MACHINE.monotonic() + FLUSH_SECONDS

    def renew(self) -> None:
        """Keep the lease during a long step; from another thread."""
        if self._member is not None:
            self._member.renew()

    def leave(self) -> None:
        """Give everything up, to be called after the last step."""
        self.flush()
        for partition in list(self._shares):
            self._close(partition)
        for ending in self._ending:
            ending.join()
        if self._member is not None:
            self._member.leave()

    def _assign(self) -> None:
        """Take what is assigned now; what is no more has been given back by this very call."""
        streams = self._ctx.specs.all(StreamSpec)
        if not streams:
            return
        if self._member is None:
            widest = max(streams, key=lambda spec: spec.partitions)
            topic = self._ctx.namespace.stream(widest.name)
            self._ctx.events.create(topic, widest.partitions)
            self._member = self._ctx.events.join(GROUP, topic, self._name, lease=self._lease)
        assigned = self._member.assigned()
        views = needed_views(self._ctx)
        for partition, share in list(self._shares.items()):
            declared = {spec.name for spec in streams if spec.partitions > partition}
            if assigned.get(partition) == self._generations[partition] and share.streams == declared:
                share.need(views)
                continue
            try:
                self._close(partition).flush()
            except Fenced:
                continue  # whoever has it now takes from the log what the lake lacks
        for partition in assigned.keys() - self._shares.keys():
            try:
                self._shares[partition] = _Share(self._ctx, views, partition, self._far_behind)
            except Fenced as error:
                LOG.warning("applier.fenced", partition=partition, error=error.message)
        if assigned != self._generations:
            LOG.info("applier.assigned", member=self._name, partitions=sorted(assigned))
        self._generations = assigned
        self._assign_at = MACHINE.monotonic() + ASSIGN_SECONDS

    def _drop(self, partition: int, error: Fenced) -> None:
        """Another process has taken the partition over; if it is still assigned here, it is opened again."""
        LOG.warning("applier.fenced", partition=partition, error=error.message)
        self._close(partition)
        self._assign_at = 0.0

    def _close(self, partition: int) -> _Share:
        share = self._shares.pop(partition)
        self._ending += share.stop()
        return share
