"""Tracked runs: what was tried, with what, and what came out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.sql import ColumnElement

from headrace.engines.context import Context
from headrace.kernel.errors import NotFound
from headrace.kernel.ids import new_id
from headrace.kernel.times import format_time
from headrace.ledger import outbox
from headrace.pipelines.claims import Claim
from headrace.training.tables import ARTIFACTS, METRICS, PARAMETERS, RUNS, TAGS
from headrace.training.types import MetricStep, Run

ABANDONED = "the process that ran it ended"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is made of."""

    model: str
    dataset: str
    code_hash: str
    seed: int
    parameters: Mapping[str, Any]
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What came out: metrics, artifact digests, the environment, and the parameters found by a search."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def recording(ctx: Context, inputs: Inputs) -> Iterator[str]:
    """Enter a running run and give its id; an exception ends it as failed. Runs whose process died are failed first."""
    fail_abandoned(ctx)
    run_id = new_id()
    claim = _claim(ctx, run_id)
    claim.take()
    try:
        with ctx.catalog.transaction() as connection:
            values = {"model": inputs.model, "dataset": inputs.dataset, "code_hash": inputs.code_hash, "seed": inputs.seed}
            now = ctx.clock.now()
            row = RUNS.insert().values(**_id(ctx, run_id), **values, status="running", environment={}, started_at=now,
                                       parent=inputs.parent)  # fmt: skip
            connection.execute(row)
            _put(connection, ctx, PARAMETERS, run_id, inputs.parameters)
            _put(connection, ctx, TAGS, run_id, inputs.tags)
        try:
            yield run_id
        except BaseException as error:
            _fail(ctx, run_id, str(error) or type(error).__name__)
            raise
    finally:
        claim.release()


def finish(ctx: Context, run_id: str, outputs: Outputs) -> Run:
    """End the run as finished, with its audit record in the same transaction unless it is a trial of another run."""
    now = ctx.clock.now()
    with ctx.catalog.transaction() as connection:
        _put(connection, ctx, PARAMETERS, run_id, outputs.parameters)
        _put(connection, ctx, ARTIFACTS, run_id, outputs.artifacts, "digest")
        _log(connection, ctx, run_id, outputs.metrics, 0)
        ended = {"status": "finished", "ended_at": now, "environment": dict(outputs.environment)}
        connection.execute(RUNS.update().where(_mine(ctx, RUNS, run_id)).values(**ended))
        finished = _runs(connection, ctx, RUNS.c.id == run_id)[0]
        if finished.parent is None:
            facts = {
                "model": finished.model, "dataset": finished.dataset, "code_hash": finished.code_hash, "seed": finished.seed,
                "parameters": finished.parameters, "metrics": finished.metrics, "artifacts": finished.artifacts,
            }  # fmt: skip
            outbox.record(connection, ctx.system, "run.finished", run_id, facts, ctx.principal, now)
    return finished


def log_metrics(ctx: Context, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
    """Log metrics of the run at `step`; the same step again replaces the value."""
    with ctx.catalog.transaction() as connection:
        _log(connection, ctx, run_id, metrics, step)


def attach(ctx: Context, run_id: str, artifacts: Mapping[str, str]) -> None:
    """Add artifacts (name to blob digest) to a run; the same name again replaces the digest."""
    with ctx.catalog.transaction() as connection:
        _put(connection, ctx, ARTIFACTS, run_id, artifacts, "digest")
        outbox.record(connection, ctx.system, "run.artifacts", run_id, dict(artifacts), ctx.principal, ctx.clock.now())


def fail_abandoned(ctx: Context) -> int:
    """End the runs whose process died as failed; return how many."""
    with ctx.catalog.reading() as connection:
        running = connection.execute(select(RUNS.c.id).where((RUNS.c.system == ctx.system) & (RUNS.c.status == "running")))
        left = [run_id for run_id in running.scalars() if _claim(ctx, run_id).free()]
    for run_id in left:
        _fail(ctx, run_id, ABANDONED)
    return len(left)


def run(ctx: Context, run_id: str) -> Run:
    """The run; NotFound lists the newest ones."""
    with ctx.catalog.reading() as connection:
        found = _runs(connection, ctx, RUNS.c.id == run_id)
        if found:
            return found[0]
        newest = select(RUNS.c.id).where(RUNS.c.system == ctx.system).order_by(RUNS.c.id.desc()).limit(10)
        raise NotFound.of("run", run_id, connection.execute(newest).scalars())


def runs(ctx: Context, *, model: str | None = None, parent: str | None = None) -> list[Run]:
    """Runs of the system, the newest first: of `model`, or the trials of run `parent`; without `parent` no trials."""
    wanted = RUNS.c.parent.is_(None) if parent is None else RUNS.c.parent == parent
    if model is not None:
        wanted &= RUNS.c.model == model
    with ctx.catalog.reading() as connection:
        return _runs(connection, ctx, wanted)


def metric_history(ctx: Context, run_id: str, name: str) -> list[MetricStep]:
    """One metric in order of step. NotFound for an unknown run, and for a metric that it has not, with those it has."""
    known = run(ctx, run_id).metrics
    if name not in known:
        raise NotFound.of("metric", name, known)
    query = select(METRICS.c.step, METRICS.c.value).where(_mine(ctx, METRICS, run_id) & (METRICS.c.name == name))
    with ctx.catalog.reading() as connection:
        return [MetricStep(row.step, _number(row.value)) for row in connection.execute(query.order_by(METRICS.c.step))]


def _claim(ctx: Context, run_id: str) -> Claim:
    return Claim(ctx.run_folder / "claims", "run", run_id)


def _id(ctx: Context, run_id: str) -> dict[str, str]:
    return {"system": ctx.system, "id": run_id}


def _mine(ctx: Context, table: Table, run_id: str) -> ColumnElement[bool]:
    return (table.c.system == ctx.system) & ((table.c.id if table is RUNS else table.c.run) == run_id)


def _put(
    connection: Connection, ctx: Context, table: Table, run_id: str, values: Mapping[str, Any], column: str = "value"
) -> None:
    for name, value in values.items():
        connection.execute(table.delete().where(_mine(ctx, table, run_id) & (table.c.name == name)))
        connection.execute(table.insert().values({"system": ctx.system, "run": run_id, "name": name, column: value}))


def _log(connection: Connection, ctx: Context, run_id: str, metrics: Mapping[str, float], step: int) -> None:
    now = ctx.clock.now()
    for name, value in metrics.items():
        this = _mine(ctx, METRICS, run_id) & (METRICS.c.name == name) & (METRICS.c.step == step)
        connection.execute(METRICS.delete().where(this))
        stored = None if math.isnan(value) else float(value)
        row = {"system": ctx.system, "run": run_id, "name": name, "step": step, "value": stored, "at": now}
        connection.execute(METRICS.insert().values(row))


def _fail(ctx: Context, run_id: str, error: str) -> None:
    with ctx.catalog.transaction() as connection:
        ended = {"status": "failed", "ended_at": ctx.clock.now(), "error": error}
        running = _mine(ctx, RUNS, run_id) & (RUNS.c.status == "running")
        connection.execute(RUNS.update().where(running).values(**ended))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _runs(connection: Connection, ctx: Context, wanted: ColumnElement[bool]) -> list[Run]:
    wanted &= RUNS.c.system == ctx.system
    rows = connection.execute(select(RUNS).where(wanted).order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc())).all()
    parts: dict[Table, dict[str, dict[str, Any]]] = {}
    for table in (PARAMETERS, METRICS, TAGS, ARTIFACTS):
        by_run = parts.setdefault(table, {})
        query = select(table).join(RUNS, (RUNS.c.system == table.c.system) & (RUNS.c.id == table.c.run)).where(wanted)
        for row in connection.execute(query.order_by(table.c.step) if table is METRICS else query):
            value = row.digest if table is ARTIFACTS else _number(row.value) if table is METRICS else row.value
            by_run.setdefault(row.run, {})[row.name] = value
    return [_run(row, {table: by_run.get(row.id, {}) for table, by_run in parts.items()}) for row in rows]


def _run(row: Row[Any], parts: Mapping[Table, dict[str, Any]]) -> Run:
    return Run(
        id=row.id, model=row.model, status=row.status, parameters=parts[PARAMETERS], metrics=parts[METRICS],
        dataset=row.dataset, code_hash=row.code_hash, seed=row.seed, environment=row.environment,
        artifacts=parts[ARTIFACTS], started_at=format_time(row.started_at),
        ended_at=None if row.ended_at is None else format_time(row.ended_at), parent=row.parent, tags=parts[TAGS],
        error=row.error,
    )  # fmt: skip
