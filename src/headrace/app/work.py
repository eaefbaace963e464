"""The work process: streams are applied, the loop decides, the ledger grows; each in a thread beside the API."""

from __future__ import annotations

from headrace.app.workers import Worker
from headrace.data.applying import StreamApplier
from headrace.data.lake_sink import FLUSH_SECONDS, LakeSink
from headrace.data.retention import retain_streams
from headrace.data.sources import Sources
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import OnlineViews
from headrace.features.types import WindowView
from headrace.kernel.clocks import MACHINE
from headrace.kernel.identity import SYSTEM
from headrace.kernel.log import LOG
from headrace.ledger.sequencer import Sequencer
from headrace.system.loop import Loop
from headrace.training.runs import fail_abandoned

LOOP_SECONDS = 0.1
IDLE_SECONDS = 0.01
SEQUENCER_SECONDS = 0.2
RETENTION_SECONDS = 60.0
SOURCES_SECONDS = 1.0
STOP_SECONDS = 30.0


class Applying:
    """All streams, one after the other. Opened at its first step: catching up after a crash must not hold up the pages."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lake: list[LakeSink] = []
        self._appliers: list[StreamApplier] | None = None
        self._flush_at = 0.0

    def step(self) -> int:
        """Apply what has arrived; returns the number of records."""
        if self._appliers is None:
            self._appliers = self._open()
        applied = sum(applier.step() for applier in self._appliers)
        if MACHINE.monotonic() >= self._flush_at and not applied:
            self.flush()
        return applied

    def flush(self) -> None:
        """Write to the lake what its sinks still hold."""
        for sink in self._lake:
            sink.flush()
        self._flush_at = MACHINE.monotonic() + FLUSH_SECONDS

    def _open(self) -> list[StreamApplier]:
        streams = self._ctx.specs.all(StreamSpec)
        views = OnlineViews(self._ctx, self._ctx.specs.all(WindowView))
        views.rebuild()
        self._lake = [LakeSink(self._ctx, spec) for spec in streams]
        return [StreamApplier(self._ctx, spec, [views.sink, lake]) for spec, lake in zip(streams, self._lake, strict=True)]


class Work:
    """What runs beside the API in the work process."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.draining = False
        acting = ctx.acting(SYSTEM)
        self._applying = Applying(acting)
        loop = Loop(acting)
        self.workers = [
            Worker("applier", self._applying.step, idle=IDLE_SECONDS),
            Worker("loop", loop.step, idle=LOOP_SECONDS, due=loop.due if ctx.clock.virtual else None),
            Worker("retention", lambda: retain_streams(acting), idle=RETENTION_SECONDS),
            Worker("sources", Sources(acting).step, idle=SOURCES_SECONDS),
            Worker("sequencer", Sequencer(acting).step, idle=SEQUENCER_SECONDS),
        ]

    def start(self) -> None:
        abandoned = fail_abandoned(self.ctx)
        if abandoned:
            LOG.warning("runs of dead processes ended as failed", runs=abandoned)
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """End every thread after its step; what the lake has not yet is written."""
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(STOP_SECONDS)
        self._applying.flush()
        LOG.info("stopped")

    def problems(self) -> dict[str, str]:
        """The last error of each thread that is failing."""
        return {worker.name: worker.error for worker in self.workers if worker.error is not None}
