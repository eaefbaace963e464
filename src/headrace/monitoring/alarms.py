"""Alarms: raised once each, with their audit record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, desc, select

from headrace.engines.context import Context
from headrace.kernel.ids import content_hash
from headrace.kernel.times import format_time, parse_time
from headrace.ledger import outbox
from headrace.monitoring.tables import alarms as table
from headrace.monitoring.types import Alarm


def alarm_id(system: str, service: str, kind: str, feature: str, at: int) -> str:
    """The same alarm has the same id, whoever raises it and however often."""
    return f"{system}-alarm-{content_hash([service, kind, feature, at])[:16]}"


def raise_alarms(connection: Connection, ctx: Context, found: Iterable[Alarm]) -> list[Alarm]:
    """Store the alarms that are new, each with its audit record, in the caller's transaction, and return those."""
    raised = []
    for alarm in found:
        if connection.execute(select(table.c.id).where(table.c.id == alarm.id)).first() is not None:
            continue
        at = parse_time(alarm.at)
        values: dict[str, Any] = {**asdict(alarm), "at": at, "window_from": parse_time(alarm.window_from)}
        connection.execute(table.insert().values(system=ctx.system, **values))
        outbox.record(connection, ctx.system, f"alarm.{alarm.kind}", alarm.id, asdict(alarm), ctx.principal, at)
        raised.append(alarm)
    return raised


def alarms(ctx: Context, service: str | None = None, *, limit: int | None = None) -> list[Alarm]:
    """The alarms of the service, or of all, the newest first."""
    query = select(table).where(table.c.system == ctx.system)
    if service is not None:
        query = query.where(table.c.service == service)
    query = query.order_by(desc(table.c.at), desc(table.c.value), table.c.id).limit(limit)
    with ctx.catalog.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Alarm(
            r.id, r.service, format_time(r.at), format_time(r.window_from), r.kind, r.feature, r.statistic, r.value,
            r.threshold, r.p_value, r.version,
        )
        for r in rows
    ]  # fmt: skip
