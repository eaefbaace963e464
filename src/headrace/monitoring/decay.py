"""Decay: a CUSUM of the loss on answers whose labels have matured, against the loss registered with the version."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import takewhile

from headrace.engines.context import Context
from headrace.kernel.times import DAY, format_time
from headrace.monitoring.alarms import alarm_id
from headrace.monitoring.judging import MONTH
from headrace.monitoring.labels import CERTAIN, known_until, labelled
from headrace.monitoring.types import Alarm, WatchSpec
from headrace.registry import versions
from headrace.serving.reading import prediction_records
from headrace.serving.types import LIVE, PredictionRecord, ServiceSpec
from headrace.statistics.cusum import alarm_level, bernoulli_cusum
from headrace.statistics.metrics import log_losses

LARGEST_LOSS = -math.log(CERTAIN)
"""Losses over it lie in [0, 1]."""
WORSE = 1.5
"""The loss ratio that the CUSUM is tuned to."""


@dataclass(frozen=True, slots=True)
class DecayState:
    """The CUSUM of `version` stands at `level` after `rows` answers asked from `since` on; `offset`: next of the log."""

    version: int | None = None
    offset: int = 0
    level: float = 0.0
    rows: int = 0
    since: int | None = None


def registered_loss(ctx: Context, service: ServiceSpec, version: int) -> float | None:
    """The log loss (nats) on rows it was not fitted on that the version was registered with; None without one."""
    metrics = versions.version(ctx, service.model.name, version).metrics
    return next((metrics[name] for name in ("test.log_loss", "cross_fitted.log_loss") if name in metrics), None)


def step(ctx: Context, watch: WatchSpec, service: ServiceSpec, state: DecayState, now: int) -> tuple[DecayState, Alarm | None]:
    """Take in the answers whose labels matured by event time `now`; an alarm starts the CUSUM again.

    A loss in [0, 1] with mean <= p0 keeps the likelihood ratio of the Bernoulli CUSUM a supermartingale (convexity), so
    that the level holds its run length: half of the false-alarm budget, at the rate of answers seen so far.
    """
    known_at = known_until(ctx, service, now)
    horizon = known_at - service.model.label.within
    tail = list(takewhile(lambda e: e[1].at <= horizon, prediction_records(ctx, service.name, state.offset)))
    if not tail:
        return state, None
    answers = [r for _, r in tail if r.role in LIVE and r.score is not None]
    state = replace(state, offset=tail[-1][0] + 1)
    alarm = None
    for version in dict.fromkeys(r.version for r in answers):
        if state.version is None or version > state.version:
            state = DecayState(version, state.offset)
        if version == state.version:
            state, raised = _take(ctx, watch, service, state, [r for r in answers if r.version == version], known_at, now)
            alarm = raised or alarm
    return state, alarm


def _take(
    ctx: Context, watch: WatchSpec, service: ServiceSpec, state: DecayState, answers: list[PredictionRecord], known_at: int,
    now: int,
) -> tuple[DecayState, Alarm | None]:  # fmt: skip
    version = answers[0].version
    usual = registered_loss(ctx, service, version)
    frame = labelled(ctx, service, answers, known_at=known_at)
    since = min(r.at for r in answers) if state.since is None else state.since
    state = replace(state, rows=state.rows + len(answers), since=since)
    if usual is None:
        return state, None
    p0 = min(max(usual / LARGEST_LOSS, 1e-6), 0.6)
    losses = log_losses(frame["label"].to_numpy(), frame["score"].to_numpy(), eps=CERTAIN)
    path = bernoulli_cusum(losses / LARGEST_LOSS, p0, WORSE * p0, start=state.level)
    seen = max(answers[-1].at - since, DAY)
    run_length = max(state.rows * MONTH / seen / (watch.false_alarms_per_month / 2), 100.0)
    level = alarm_level(p0, WORSE * p0, run_length)
    highest = float(path.max())
    if highest < level:
        return replace(state, level=float(path[-1])), None
    identifier = alarm_id(ctx.system, service.name, "decay", "log_loss", now)
    period = format_time(now), format_time(since)
    alarm = Alarm(identifier, service.name, *period, "decay", "log_loss", "cusum", highest, level, 1 / run_length, version)
    return replace(state, level=0.0), alarm
