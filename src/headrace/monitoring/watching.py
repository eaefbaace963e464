"""Watching a service: each window of asking time is judged once, at its end."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from headrace.engines.context import Context
from headrace.kernel.identity import SYSTEM
from headrace.kernel.times import DAY
from headrace.monitoring import decay
from headrace.monitoring.alarms import raise_alarms
from headrace.monitoring.decay import DecayState
from headrace.monitoring.drift import Cells, drift, live_cells
from headrace.monitoring.judging import judge
from headrace.monitoring.tables import watch_states
from headrace.monitoring.types import Alarm, WatchSpec
from headrace.serving.types import ServiceSpec


def watch_step(ctx: Context, watch: WatchSpec, now: int) -> list[Alarm]:
    """Judge the windows that ended since the last call, at multiples of `watch.every` up to event time `now`, each exactly
    once, and return the alarms raised. Window, alarms and audit records are one transaction.

    Equal counters give equal alarms. What was never served is not judged: the first window ends after the first answer.
    """
    ctx = ctx.acting(SYSTEM)
    end = now // watch.every * watch.every
    with ctx.catalog.reading() as connection:
        row = _row(connection, ctx.system, watch.service)
    if row is not None and row.evaluated_to >= end:
        return []
    service = ctx.specs.get(ServiceSpec, watch.service)
    upto = ctx.events.end(ctx.namespace.predictions(service.name), 0)
    if upto == 0:
        return []
    from_day = 0 if row is None else (row.evaluated_to + watch.every - watch.window) // DAY
    cells = live_cells(ctx, service, from_day, -(-end // DAY), upto)
    raised: list[Alarm] = []
    for at in _ends(watch, None if row is None else row.evaluated_to, end, cells):
        raised += _judge_window(ctx, watch, service, cells, at)
    return raised


def _ends(watch: WatchSpec, evaluated_to: int | None, end: int, cells: Cells) -> list[int]:
    """The window ends to judge: those whose window holds answers, and `end` itself."""
    if not cells:
        return [end] if evaluated_to is not None else []
    first, last = min(day for _, day in cells) * DAY, max(day for _, day in cells) * DAY
    begin = (
        first // watch.every * watch.every if evaluated_to is None else max(evaluated_to, first // watch.every * watch.every)
    )
    inside = [at for at in range(begin + watch.every, end + 1, watch.every) if at - watch.window <= last]
    return inside if inside and inside[-1] == end else [*inside, end]


def _judge_window(ctx: Context, watch: WatchSpec, service: ServiceSpec, cells: Cells, at: int) -> list[Alarm]:
    report = drift(ctx, service, cells, at - watch.window, at)
    found = [] if report is None else judge(watch, ctx.system, report, at)
    with ctx.catalog.reading() as connection:
        row = _row(connection, ctx.system, service.name)
    before = DecayState() if row is None else _decay_state(row)
    after, decayed = decay.step(ctx, watch, service, before, at)
    if decayed is not None:
        found.append(decayed)
    values = {
        "evaluated_to": at, "decay_version": after.version, "decay_offset": after.offset, "decay_level": after.level,
        "decay_rows": after.rows, "decay_since": after.since,
    }  # fmt: skip
    with ctx.catalog.transaction() as connection:
        row = _row(connection, ctx.system, service.name)
        if row is not None and row.evaluated_to >= at:
            return []
        mine = (watch_states.c.system == ctx.system) & (watch_states.c.service == service.name)
        if row is None:
            connection.execute(watch_states.insert().values(system=ctx.system, service=service.name, **values))
        else:
            connection.execute(watch_states.update().where(mine).values(**values))
        return raise_alarms(connection, ctx, found)


def _row(connection: Connection, system: str, service: str) -> Row[Any] | None:
    mine = (watch_states.c.system == system) & (watch_states.c.service == service)
    return connection.execute(select(watch_states).where(mine)).first()


def _decay_state(row: Row[Any]) -> DecayState:
    return DecayState(row.decay_version, row.decay_offset, row.decay_level, row.decay_rows, row.decay_since)
