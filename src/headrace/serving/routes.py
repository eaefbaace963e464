"""Publishing what serves, and learning that the workers have taken it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec
from sqlalchemy import Connection, delete, select

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.serving.tables import route_acks, routes
from headrace.serving.types import RouteTable


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a worker serves: the generation it has taken over, the versions it has warm, those it could not load."""

    generation: int
    ready: tuple[int, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)


def route(connection: Connection, system: str, service: str) -> RouteTable | None:
    """What serves now; None before the first release."""
    query = select(routes.c.route).where(routes.c.system == system, routes.c.service == service)
    text = connection.execute(query).scalar()
    return None if text is None else msgspec.json.decode(text, type=RouteTable)


def published(connection: Connection, system: str) -> dict[str, RouteTable]:
    """Every route table of the system by service."""
    rows = connection.execute(select(routes.c.route).where(routes.c.system == system)).scalars()
    tables = [msgspec.json.decode(text, type=RouteTable) for text in rows]
    return {table.service: table for table in tables}


def generations(connection: Connection, system: str) -> dict[str, int]:
    """Service to generation: the cheap question that a worker asks ten times a second."""
    rows = connection.execute(select(routes.c.service, routes.c.generation).where(routes.c.system == system))
    return {row.service: row.generation for row in rows}


def publish(connection: Connection, system: str, table: RouteTable) -> RouteTable:
    """Replace the service's route table inside the caller's transaction and return it with its new generation."""
    before = route(connection, system, table.service)
    stored = replace(table, generation=1 if before is None else before.generation + 1)
    connection.execute(delete(routes).where(routes.c.system == system, routes.c.service == table.service))
    connection.execute(
        routes.insert().values(
            system=system,
            service=stored.service,
            generation=stored.generation,
            route=msgspec.json.encode(stored).decode(),
        )
    )
    return stored


def acknowledge(connection: Connection, system: str, service: str, worker: str, ack: Acknowledgement) -> None:
    """Record what `worker` serves; the row of the worker is replaced."""
    mine = (route_acks.c.system == system, route_acks.c.service == service, route_acks.c.worker == worker)
    connection.execute(delete(route_acks).where(*mine))
    connection.execute(
        route_acks.insert().values(
            system=system,
            service=service,
            worker=worker,
            generation=ack.generation,
            versions_ready=msgspec.json.encode(ack.ready).decode(),
            versions_failed=msgspec.json.encode(ack.failed).decode(),
            at=MACHINE.now(),
        )
    )


def acknowledgements(ctx: Context, service: str) -> dict[str, Acknowledgement]:
    """Worker to what it serves."""
    with ctx.catalog.reading() as connection:
        rows = connection.execute(
            select(route_acks).where(route_acks.c.system == ctx.system, route_acks.c.service == service)
        ).all()
    return {
        row.worker: Acknowledgement(
            row.generation,
            msgspec.json.decode(row.versions_ready, type=tuple[int, ...]),
            msgspec.json.decode(row.versions_failed, type=dict[int, str]),
        )
        for row in rows
    }


def acknowledged(ctx: Context, service: str, generation: int) -> bool:
    """Whether every worker has taken over this generation or a newer one, with every version of it warm."""
    workers = acknowledgements(ctx, service).values()
    return bool(workers) and all(ack.generation >= generation and not ack.failed for ack in workers)
