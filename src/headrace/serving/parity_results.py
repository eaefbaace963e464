"""The last parity check of each service, for the status and the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.times import format_time
from headrace.serving.parity import Parity
from headrace.serving.tables import parity_results
from headrace.serving.types import ServiceSpec


@dataclass(frozen=True, slots=True)
class ParityResult:
    """The figures of `Parity` for a service, and when they were made by the machine's clock."""

    service: str
    values_compared: int
    values_different: int
    values_stale: int
    max_staleness_s: float
    checked_at: str


def record(ctx: Context, service: str, found: Parity) -> None:
    """Keep the figures in the place of those of the service's last check."""
    table = parity_results
    with ctx.catalog.transaction() as connection:
        connection.execute(table.delete().where((table.c.system == ctx.system) & (table.c.service == service)))
        connection.execute(
            table.insert().values(
                system=ctx.system,
                service=service,
                values_compared=found.values_compared,
                values_different=found.values_different,
                values_stale=found.values_stale,
                max_staleness_s=found.max_staleness_s,
                at=MACHINE.now(),
            )
        )


def last_results(ctx: Context) -> list[ParityResult]:
    """The last check of every declared service that was ever checked."""
    table = parity_results
    with ctx.catalog.reading() as connection:
        rows = {row.service: row for row in connection.execute(select(table).where(table.c.system == ctx.system))}
    return [
        ParityResult(
            row.service, row.values_compared, row.values_different, row.values_stale, row.max_staleness_s, format_time(row.at)
        )
        for row in (rows[spec.name] for spec in ctx.specs.all(ServiceSpec) if spec.name in rows)
    ]
