"""Whether everything that follows from the events and requests so far has been done: what a replay waits for."""

from __future__ import annotations

from sqlalchemy import select

from headrace.data.status import stream_status
from headrace.engines.context import Context
from headrace.features.types import stored_views
from headrace.features.view_lag import view_lags
from headrace.kernel.clocks import MACHINE
from headrace.kernel.times import format_time
from headrace.system.tables import loop_state
from headrace.system.types import Settled

PAUSE_SECONDS = 0.005


def mark(ctx: Context, now: int) -> None:
    """Note that the loop has decided everything up to event time `now`. Only on a virtual clock: a real one never rests."""
    if not ctx.clock.virtual:
        return
    with ctx.catalog.transaction() as connection:
        changed = connection.execute(
            loop_state.update().where(loop_state.c.system == ctx.system).values(settled_at=now)
        ).rowcount
        if not changed:
            connection.execute(loop_state.insert().values(system=ctx.system, settled_at=now))


def settled(ctx: Context, timeout: float) -> Settled:
    """Wait at most `timeout` machine seconds until no stream and no view lags and the loop has decided everything."""
    deadline = MACHINE.monotonic() + timeout
    while True:
        lagging = [s.stream for s in stream_status(ctx) if s.lag]
        if not lagging:
            lagging = list(dict.fromkeys(v.view.stream for v in view_lags(ctx, stored_views(ctx.specs)) if v.lag))
        with ctx.catalog.reading() as connection:
            decided = connection.execute(select(loop_state.c.settled_at).where(loop_state.c.system == ctx.system)).scalar()
        now = ctx.clock.now()
        done = not lagging and decided == now
        if done or MACHINE.monotonic() >= deadline:
            return Settled(done, format_time(now), None if decided is None else format_time(decided), lagging)
        MACHINE.sleep(PAUSE_SECONDS)
