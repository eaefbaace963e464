"""The work process: streams are applied, the loop decides, the ledger grows; each in a thread beside the API."""

from __future__ import annotations

from headrace.app.workers import Worker
from headrace.data.applying import StreamApplier
from headrace.data.lake_sink import LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import OnlineViews
from headrace.features.types import WindowView
from headrace.kernel.identity import SYSTEM
from headrace.kernel.log import LOG
from headrace.ledger.sequencer import Sequencer
from headrace.system.loop import Loop

LOOP_SECONDS = 0.1
IDLE_SECONDS = 0.01
SEQUENCER_SECONDS = 0.2
STOP_SECONDS = 30.0


class Work:
    """What runs beside the API in the work process."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.draining = False
        acting = ctx.acting(SYSTEM)
        self.views = OnlineViews(acting, ctx.specs.all(WindowView))
        streams = ctx.specs.all(StreamSpec)
        self._lake = [LakeSink(acting, spec) for spec in streams]
        self._appliers = [
            StreamApplier(acting, spec, [self.views.sink, lake]) for spec, lake in zip(streams, self._lake, strict=True)
        ]
        self.workers = [
            Worker("applier", self._apply, idle=IDLE_SECONDS),
            Worker("loop", Loop(acting).step, idle=LOOP_SECONDS),
            Worker("sequencer", Sequencer(acting).step, idle=SEQUENCER_SECONDS),
        ]

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """End every thread after its step; what the lake has not yet is written."""
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(STOP_SECONDS)
        for sink in self._lake:
            sink.flush()
        LOG.info("stopped")

    def problems(self) -> dict[str, str]:
        """The last error of each thread that is failing."""
        return {worker.name: worker.error for worker in self.workers if worker.error is not None}

    def _apply(self) -> int:
        return sum(applier.step() for applier in self._appliers)
