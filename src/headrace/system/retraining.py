"""Retraining by policy: when an alarm leads to one, and its durable steps.

dataset -> train -> register -> compare -> release. Everything is computed as of the alarm's event time, so that a run
that was killed and resumed gives the same version as one that was not.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, NotFound
from headrace.kernel.identity import SYSTEM
from headrace.kernel.times import HOUR, format_time, parse_time
from headrace.ledger import outbox
from headrace.monitoring.alarms import alarms
from headrace.monitoring.comparing import compare
from headrace.monitoring.types import Alarm, WatchSpec
from headrace.pipelines.steps import Pipeline
from headrace.registry import versions
from headrace.release import rollouts
from headrace.serving.routes import route
from headrace.serving.types import ServiceSpec
from headrace.system.tables import alarm_decisions, retrainings
from headrace.system.types import Retraining
from headrace.training.datasets import build_dataset
from headrace.training.evaluation import evaluate
from headrace.training.training import train

PIPELINE = "retrain"
UNFINISHED = ("scheduled", "running")


def listed(ctx: Context) -> list[Retraining]:
    """Every retraining of the system, the newest first."""
    with ctx.catalog.reading() as connection:
        rows = connection.execute(
            select(retrainings).where(retrainings.c.system == ctx.system).order_by(retrainings.c.known_at.desc())
        ).all()
    return [
        Retraining(r.id, r.service, r.alarm, format_time(r.known_at), r.state, r.dataset, r.version, r.comparison, r.reason)
        for r in rows
    ]


def refusal(ctx: Context, watch: WatchSpec, at: int) -> str | None:
    """Why the policy begins no retraining at event time `at`, or None when it may."""
    with ctx.catalog.reading() as connection:
        live = route(connection, ctx.system, watch.service)
        mine = (retrainings.c.system == ctx.system) & (retrainings.c.service == watch.service)
        running = connection.execute(select(retrainings.c.id).where(mine & retrainings.c.state.in_(UNFINISHED))).first()
        number, period = watch.at_most
        recent = connection.execute(
            select(func.count()).select_from(retrainings).where(mine & (retrainings.c.known_at > at - period))
        ).scalar_one()
    if live is None or live.champion is None:
        return "there is no champion"
    if live.rollout is not None:
        return f"rollout `{live.rollout}` is in progress"
    if running is not None:
        return f"retraining `{running.id}` is in progress"
    if recent >= number:
        return f"{recent} in the last {period // HOUR} hours, at_most allows {number}"
    return None


def decide(ctx: Context, watch: WatchSpec) -> list[str]:
    """Decide on every drift alarm that awaits it, oldest first; return the ids of the retrainings begun.

    The alarms of one moment are one decision. Decision, retraining and audit record are one transaction.
    """
    with ctx.catalog.reading() as connection:
        decided = set(
            connection.execute(select(alarm_decisions.c.alarm).where(alarm_decisions.c.system == ctx.system)).scalars()
        )
    waiting: dict[str, list[Alarm]] = {}
    for alarm in alarms(ctx, watch.service):
        if alarm.kind == "drift" and alarm.id not in decided:
            waiting.setdefault(alarm.at, []).append(alarm)
    begun = []
    for at in sorted(waiting, key=parse_time):
        worst = max(waiting[at], key=lambda a: a.value)
        why_not = refusal(ctx, watch, parse_time(at))
        identifier = None if why_not else f"{ctx.system}-retrain-{worst.id.rpartition('-')[2]}"
        reason = why_not or f"{worst.statistic} of `{worst.feature}` is {worst.value:.3f} > {worst.threshold}"
        _enter(ctx, watch, waiting[at], worst, identifier, reason)
        if identifier is not None:
            begun.append(identifier)
    return begun


def _enter(ctx: Context, watch: WatchSpec, together: list[Alarm], worst: Alarm, identifier: str | None, reason: str) -> None:
    at = parse_time(worst.at)
    known_at = at + watch.retrain_after
    with ctx.catalog.transaction() as connection:
        for alarm in together:
            connection.execute(
                alarm_decisions.insert().values(alarm=alarm.id, system=ctx.system, retraining=identifier, reason=reason)
            )
        if identifier is not None:
            connection.execute(
                retrainings.insert().values(
                    id=identifier, system=ctx.system, service=watch.service, alarm=worst.id, known_at=known_at,
                    state="scheduled", reason=reason,
                )
            )  # fmt: skip
        kind = "retraining.begin" if identifier else "retraining.refused"
        payload = {"alarm": worst.id, "service": watch.service, "reason": reason}
        outbox.record(connection, ctx.system, kind, identifier or worst.id, payload, SYSTEM, at)


def _finish(ctx: Context, identifier: str, state: str, known_at: int, **values: Any) -> str:
    with ctx.catalog.transaction() as connection:
        connection.execute(retrainings.update().where(retrainings.c.id == identifier).values(state=state, **values))
        outbox.record(connection, ctx.system, f"retraining.{state}", identifier, values, SYSTEM, known_at)
    return state


def due(ctx: Context, now: int) -> list[str]:
    """Ids of the retrainings that are to run, or to be resumed, at event time `now`."""
    with ctx.catalog.reading() as connection:
        mine = (retrainings.c.system == ctx.system) & retrainings.c.state.in_(UNFINISHED) & (retrainings.c.known_at <= now)
        return list(connection.execute(select(retrainings.c.id).where(mine).order_by(retrainings.c.known_at)).scalars())


def give_up(ctx: Context, identifier: str, reason: str) -> None:
    """Record that the retraining failed; the champion stays."""
    _finish(ctx, identifier, "failed", ctx.clock.now(), reason=reason)


def run(ctx: Context, identifier: str) -> str:
    """Run, or resume at its first unfinished step, one retraining; return its final state."""
    this = retrainings.c.id == identifier
    with ctx.catalog.transaction() as connection:
        connection.execute(retrainings.update().where(this).values(state="running"))
        row = connection.execute(select(retrainings).where(this)).one()
        live = route(connection, ctx.system, row.service)
    ctx = ctx.acting(SYSTEM)
    watch, service = ctx.specs.get(WatchSpec, row.service), ctx.specs.get(ServiceSpec, row.service)
    if live is None or live.champion is None:
        raise NotFound(f"service `{row.service}` has no champion to compare with", hint="release a version first")
    model, known_at, end = service.model, row.known_at, row.known_at - service.model.label.within
    held_out = end - watch.holdout
    judged_on = {"start": held_out, "end": end, "known_at": known_at}
    champion = versions.version(ctx, model.name, live.champion)
    with Pipeline(ctx, PIPELINE, identifier) as pipeline:
        dataset = pipeline.step(
            "dataset",
            lambda: build_dataset(ctx, model.name, start=end - watch.train_on, end=held_out, known_at=known_at).ref,
        )
        parameters = pipeline.step("parameters", lambda: versions.parameters(ctx, champion))
        trained = pipeline.step("train", lambda: train(ctx, model.name, dataset, parameters=parameters).id)
        pipeline.step("test", lambda: evaluate(ctx, trained, **judged_on, history_start=end - watch.train_on))
        number = pipeline.step("register", lambda: versions.register(ctx, model.name, run=trained).number)
        judged = pipeline.step("compare", lambda: asdict(compare(ctx, row.service, champion.number, number, **judged_on)))
        facts = {"dataset": dataset, "version": number, "comparison": judged}
        if not judged["passed"]:
            state, reason = "rejected", judged["reason"]
        elif watch.approve == "person":
            state, reason = "waiting", "`headrace registry approve` by a person"
        else:
            why = f"policy of the watch: {judged['reason']}"
            pipeline.step("approve", lambda: _approve_once(ctx, model.name, number, why))
            pipeline.step("release", lambda: _release_once(ctx, row.service, number, f"alarm {row.alarm}"))
            state, reason = "released", row.reason
    return _finish(ctx, identifier, state, known_at, **facts, reason=reason)


def _approve_once(ctx: Context, model: str, number: int, reason: str) -> int:
    """Approve, unless a step that was killed has done it."""
    if not any(approval.reason == reason for approval in versions.approvals(ctx, model, number)):
        versions.approve(ctx, model, number, reason=reason)
    return number


def _release_once(ctx: Context, service: str, number: int, reason: str) -> str:
    """Start the rollout and return its id, unless a step that was killed has started it."""
    newest = rollouts.status(ctx, service)
    return newest.id if newest.challenger == number else rollouts.start(ctx, service, number, reason=reason).id


def run_job(ctx: Context, identifier: str) -> str:
    """What a compute child runs for the loop: `run`, with a failed check recorded in the retraining's row."""
    try:
        return run(ctx, identifier)
    except CheckFailed as error:
        return _finish(ctx, identifier, "failed", ctx.clock.now(), reason=error.message)
