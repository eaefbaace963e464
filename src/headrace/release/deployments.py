"""What serves, and what served when: the one place where routes change.

A change is a row of the history, the route table and its audit record, in the caller's transaction: all or none.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, desc, select

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.times import format_time
from headrace.ledger import outbox
from headrace.release.tables import deployments
from headrace.release.types import Deployment
from headrace.serving import routes
from headrace.serving.types import RouteTable


def deploy(connection: Connection, ctx: Context, table: RouteTable, *, step: int | None, reason: str, at: int) -> int:
    """Make `table` the routes of its service under the next generation, and return that. `at`: event time."""
    generation = routes.publish(connection, ctx.system, table).generation
    facts: dict[str, Any] = {
        "champion": table.champion,
        "challenger": table.challenger,
        "weight": table.weight,
        "salt": table.salt,
        "rollout": table.rollout,
        "generation": generation,
        "reason": reason,
    }
    connection.execute(
        deployments.insert().values(
            **facts,
            system=ctx.system,
            service=table.service,
            at=at,
            machine_at=MACHINE.now(),
            step=step,
            shadows=msgspec.json.encode(table.shadows).decode(),
            by=ctx.principal.name,
        )
    )
    payload = {**facts, "shadows": list(table.shadows)}
    outbox.record(connection, ctx.system, "deployment.changed", table.service, payload, ctx.principal, at)
    return generation


def _deployment(row: Row[Any]) -> Deployment:
    shadows = msgspec.json.decode(row.shadows, type=list[int])
    return Deployment(
        row.service, row.generation, format_time(row.at), row.champion, row.challenger, row.weight, row.salt, shadows,
        row.rollout, row.by, row.reason,
    )  # fmt: skip


def history(ctx: Context, service: str) -> list[Deployment]:
    """Every deployment of the service, the newest first."""
    query = select(deployments).where((deployments.c.system == ctx.system) & (deployments.c.service == service))
    with ctx.catalog.reading() as connection:
        return [_deployment(row) for row in connection.execute(query.order_by(desc(deployments.c.generation)))]


def live_at(ctx: Context, service: str, at: int) -> Deployment | None:
    """What was live at event time `at` (microseconds): the newest deployment by then; None before the first."""
    mine = (deployments.c.system == ctx.system) & (deployments.c.service == service) & (deployments.c.at <= at)
    with ctx.catalog.reading() as connection:
        row = connection.execute(select(deployments).where(mine).order_by(desc(deployments.c.generation)).limit(1)).first()
    return None if row is None else _deployment(row)


def steps_of(connection: Connection, system: str, rollout: str) -> dict[int, tuple[int | None, float]]:
    """generation -> (step, weight) of the routes that a rollout made."""
    query = select(deployments.c.generation, deployments.c.step, deployments.c.weight).where(
        (deployments.c.system == system) & (deployments.c.rollout == rollout)
    )
    return {row.generation: (row.step, row.weight) for row in connection.execute(query)}
