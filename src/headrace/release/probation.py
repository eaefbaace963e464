"""Probation: the late labels decide, on requests that both versions scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from headrace.engines.context import Context
from headrace.kernel.times import HOUR
from headrace.monitoring.labels import CERTAIN, known_until, labelled
from headrace.release.store import State
from headrace.serving.reading import prediction_records
from headrace.serving.types import PredictionRecord, ServiceSpec
from headrace.statistics.bootstrap import bootstrap, mean_of
from headrace.statistics.metrics import log_losses

TRY_EACH = HOUR
"""Microseconds of labels that must have become known before the log is read again."""
LOOKS = 3
"""The labels are looked at so often at most, each time on twice as many rows; alpha is shared among the looks."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`loss` of the challenger minus that of the old champion, nats a row, within [low, high]."""

    verdict: Literal["promoted", "rolled_back", "wait", "hold"]
    reason: str
    rows: int


def due(ctx: Context, service: ServiceSpec, state: State) -> int | None:
    """The event time up to which labels are known, when the step has lasted and that time has moved on since the last try."""
    if ctx.clock.now() < state.entered_at + state.policy.steps[state.step].duration:
        return None
    known_at = known_until(ctx, service, ctx.clock.now())
    return known_at if known_at >= state.evidence.tried_at + TRY_EACH else None


def judge(ctx: Context, service: ServiceSpec, state: State, known_at: int) -> Judgement | None:
    """What the labels known at event time `known_at` say; None without enough new ones and a positive one.

    Worse with confidence: rolled back. At most `loss_margin` worse with confidence: promoted. Undecided after the last
    look: hold. Confidence is a cluster bootstrap by entity of the paired log losses at level 1 - 2 alpha / looks.
    """
    wanted = max(state.policy.minimum_requests, 2 * state.evidence.looked_at_rows)
    rows = mature_pairs(ctx, service, state, known_at)
    labels = rows["label"].to_numpy()
    if rows.height < wanted or not labels.any():
        return None
    new, old = (log_losses(labels, rows[name].to_numpy(), eps=CERTAIN) for name in ("challenger", "champion"))
    level = 1 - 2 * state.policy.alpha / LOOKS
    found = bootstrap(mean_of(new - old), rows.height, clusters=rows["entity"].to_numpy(), draws=2000, level=level)
    said = (
        f"late labels: log loss {found.estimate:+.4f} against the old champion, {100 * level:.1f} % within "
        f"[{found.low:+.4f}, {found.high:+.4f}], on {rows.height} requests that both scored"
    )
    if found.low > 0 and found.estimate > state.policy.loss_margin / 2:
        return Judgement("rolled_back", said, rows.height)
    if found.high <= state.policy.loss_margin:
        return Judgement("promoted", said, rows.height)
    last = state.evidence.looks + 1 >= LOOKS and not state.evidence.accepted
    return Judgement("hold" if last else "wait", f"{said}: undecided", rows.height)


def mature_pairs(ctx: Context, service: ServiceSpec, state: State, known_at: int) -> pl.DataFrame:
    """Requests of the rollout that both versions scored and whose labels are mature at event time `known_at`: columns
    entity, challenger, champion (scores), label."""
    scores: dict[str, dict[int, float]] = {}
    requests: dict[str, PredictionRecord] = {}
    horizon = known_at - service.model.label.within
    for _, record in prediction_records(ctx, service.name, state.first_offset):
        if record.rollout == state.id and record.score is not None and record.at <= horizon:
            scores.setdefault(record.id, {})[record.version] = record.score
            requests.setdefault(record.id, record)
    both = [i for i, found in scores.items() if state.challenger in found and state.champion in found]
    frame = labelled(ctx, service, [requests[i] for i in both], known_at=known_at)
    return frame.with_columns(
        pl.Series("challenger", [scores[i][state.challenger] for i in both], pl.Float64),
        pl.Series("champion", [scores[i][state.champion or 0] for i in both], pl.Float64),
    ).filter(pl.col("mature"))
