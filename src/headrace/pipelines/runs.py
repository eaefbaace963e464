"""Which pipelines there are, and how far they have come."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from headrace.engines.context import Context
from headrace.kernel.times import format_time
from headrace.pipelines.tables import PIPELINES, STEPS
from headrace.pipelines.types import PipelineStatus, StepStatus


def pipelines(ctx: Context, name: str | None = None) -> list[PipelineStatus]:
    """The pipelines of the system (called `name`) with their steps, the oldest first."""
    query = select(PIPELINES).where(PIPELINES.c.system == ctx.system)
    if name is not None:
        query = query.where(PIPELINES.c.name == name)
    steps: dict[tuple[str, str], list[StepStatus]] = {}
    with ctx.catalog.reading() as connection:
        rows = connection.execute(query.order_by(PIPELINES.c.started_at, PIPELINES.c.name, PIPELINES.c.key)).all()
        for step in connection.execute(select(STEPS).where(STEPS.c.system == ctx.system).order_by(STEPS.c.position)):
            steps.setdefault((step.pipeline, step.key), []).append(_step(step))
    return [_pipeline(row, tuple(steps.get((row.name, row.key), ()))) for row in rows]


def _time(micros: int | None) -> str | None:
    return None if micros is None else format_time(micros)


def _step(row: Row[Any]) -> StepStatus:
    began = format_time(row.started_at)
    return StepStatus(row.name, row.state, row.attempts, began, _time(row.ended_at), row.seconds, row.result, row.error)


def _pipeline(row: Row[Any], steps: tuple[StepStatus, ...]) -> PipelineStatus:
    return PipelineStatus(row.name, row.key, row.state, format_time(row.started_at), _time(row.ended_at), row.error, steps)
