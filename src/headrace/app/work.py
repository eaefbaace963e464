"""The work process: streams are applied, the loop decides, the ledger grows; each in a thread beside the API."""

from __future__ import annotations

from headrace.app.apply_workers import LOOK_SECONDS, ApplyWorkers
from headrace.app.applying import RENEW_SECONDS, Applying
from headrace.app.following import FOLLOW_SECONDS, Following
from headrace.app.workers import Worker
from headrace.data.retention import retain_streams
from headrace.data.sources import Sources
from headrace.data.stream_checks import judge_streams
from headrace.engines.context import Context
from headrace.kernel.identity import SYSTEM
from headrace.kernel.log import LOG
from headrace.ledger.sequencer import Sequencer
from headrace.release.live import drop_unneeded
from headrace.system.loop import Loop
from headrace.training.runs import fail_abandoned

LOOP_SECONDS = 0.1
IDLE_SECONDS = 0.01
DROWSY = 4
SEQUENCER_SECONDS = 0.2
RETENTION_SECONDS = 60.0
SOURCES_SECONDS = 1.0
CONTRACTS_SECONDS = 30.0
STOP_SECONDS = 30.0


class Work:
    """What runs beside the API in the work process."""

    def __init__(self, ctx: Context, *, appliers: int = 1) -> None:
        """`appliers`: how many processes apply the streams, this one included."""
        self.ctx = ctx
        self.draining = False
        acting = ctx.acting(SYSTEM)
        self._applying = Applying(acting)
        self._others = ApplyWorkers(ctx, appliers - 1)
        loop = Loop(acting)
        self._sequencer = Sequencer(acting, holder=acting.place)
        self.workers = [
            Worker("applier", self._applying.step, idle=IDLE_SECONDS, drowsy=DROWSY),
            Worker("lease", self._applying.renew, idle=RENEW_SECONDS),
            Worker("apply processes", self._others.step, idle=LOOK_SECONDS),
            Worker("declarations", Following(ctx).step, idle=FOLLOW_SECONDS),
            Worker("loop", loop.step, idle=LOOP_SECONDS, due=loop.due if ctx.clock.virtual else None),
            Worker("retention", lambda: retain_streams(acting), idle=RETENTION_SECONDS),
            Worker("contracts", lambda: judge_streams(acting), idle=CONTRACTS_SECONDS),
            Worker("sources", Sources(acting).step, idle=SOURCES_SECONDS),
            Worker("sequencer", self._sequencer.step, idle=SEQUENCER_SECONDS),
        ]

    def start(self) -> None:
        abandoned = fail_abandoned(self.ctx)
        if abandoned:
            LOG.warning("runs of dead processes ended as failed", runs=abandoned)
        drop_unneeded(self.ctx)
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """End every thread after its step, let another process lead the ledger; what the lake has not yet is written."""
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(STOP_SECONDS)
        self._sequencer.close()
        self._others.stop()
        self._applying.leave()
        LOG.info("stopped")

    def problems(self) -> dict[str, str]:
        """The last error of each thread that is failing."""
        return {worker.name: worker.error for worker in self.workers if worker.error is not None}
