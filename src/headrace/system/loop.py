"""The loop closes: it moves rollouts, watches services, and begins and resumes retrainings by the declared policy."""

from __future__ import annotations

from headrace.engines.compute.port import Job
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.log import LOG
from headrace.monitoring.types import WatchSpec
from headrace.monitoring.watching import watch_step
from headrace.release.stepping import tick
from headrace.serving.routes import acknowledgements, route
from headrace.serving.types import ServiceSpec
from headrace.system import retraining, settling

LEASE_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""With no rollout and no retraining in progress, a real clock makes something due at most this late; a commit at once."""
ATTEMPTS = 3


class Loop:
    """One at a time over all processes (it holds a lease). `step()` never waits for a training."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._jobs: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._settled_at = self._stepped_at = -1
        self._renew_at = 0.0
        self._decided: set[str] = set()
        self._idle = False
        self._changes = -1
        self._look_at = 0.0

    def due(self) -> bool:
        """Whether the event clock has moved since the last step: a replay waits for what is decided then."""
        return self._ctx.clock.now() != self._stepped_at

    def step(self) -> None:
        """Decide all that can be decided at the event clock's time."""
        ctx = self._ctx
        if MACHINE.monotonic() >= self._renew_at:
            if not ctx.catalog.lease(ctx.namespace.name("loop"), ctx.place, LEASE_SECONDS):
                return
            self._renew_at = MACHINE.monotonic() + LEASE_SECONDS / 3
        changes = ctx.catalog.changes()
        if self._idle and changes == self._changes and MACHINE.monotonic() < self._look_at:
            return
        self._changes, self._look_at = changes, MACHINE.monotonic() + LOOK_SECONDS
        self._stepped_at = now = ctx.clock.now()
        moving = [tick(ctx, service.name) for service in ctx.specs.all(ServiceSpec)]
        warming = any(rollout is not None and rollout.state == "warming" for rollout in moving)
        at_rest = not warming and all(self._taken_over(service.name) for service in ctx.specs.all(ServiceSpec))
        for watch in ctx.specs.all(WatchSpec):
            self._watch(watch, now)
        if self._retrain(now) > 0:
            at_rest = False
        elif at_rest and now != self._settled_at:
            settling.mark(ctx, now)
            self._settled_at = now
        self._idle = at_rest and not any(moving) and not ctx.clock.virtual

    def _taken_over(self, service: str) -> bool:
        """Whether every worker serves the newest routes."""
        with self._ctx.catalog.reading() as connection:
            newest = route(connection, self._ctx.system, service)
        workers = acknowledgements(self._ctx, service).values()
        return newest is None or all(worker.generation >= newest.generation for worker in workers)

    def _watch(self, watch: WatchSpec, now: int) -> None:
        raised = watch_step(self._ctx, watch, now)
        if raised or watch.name not in self._decided:
            for identifier in retraining.decide(self._ctx, watch):
                LOG.info("retraining begins", service=watch.service, retraining=identifier)
            self._decided.add(watch.name)

    def _retrain(self, now: int) -> int:
        """Start, resume and collect retrainings; return how many were not finished before: what they led to is decided in
        the next step."""
        ctx = self._ctx
        for identifier in retraining.due(ctx, now):
            if identifier in self._jobs:
                continue
            if self._attempts.get(identifier, 0) >= ATTEMPTS:
                retraining.give_up(ctx, identifier, f"it failed {ATTEMPTS} times; the log says how")
                continue
            self._attempts[identifier] = self._attempts.get(identifier, 0) + 1
            job = Job("headrace.app.child:retrain", {**ctx.child_arguments(), "retraining": identifier}, cpus=1)
            self._jobs[identifier] = ctx.compute.submit(job)
        unfinished = len(self._jobs)
        for identifier, job_id in list(self._jobs.items()):
            result = ctx.compute.result(job_id, timeout=0)
            if result.state in ("finished", "failed"):
                del self._jobs[identifier]
                LOG.info("retraining ended", retraining=identifier, state=result.value or result.state, error=result.error)
        return unfinished
