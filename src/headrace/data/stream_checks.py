"""Rules of a stream as a whole: is it fresh, and does it bring as much as usual?"""

from __future__ import annotations

from statistics import median

import polars as pl
from sqlalchemy import select

from headrace.data.history import table_of
from headrace.data.positions import watermark
from headrace.data.tables import STREAM_CHECKS
from headrace.data.types import Fresh, StreamSpec, Volume
from headrace.engines.context import Context
from headrace.kernel.log import LOG
from headrace.kernel.times import SECOND, format_time

FEWEST_PERIODS = 3
"""Periods with events before the last one, without which nobody knows what is usual."""
Judgement = tuple[bool | None, str, str]
"""Whether the rule holds (None: too little is known), what was found, what is allowed."""


def judge_streams(ctx: Context) -> None:
    """Judge every `hr.fresh` and `hr.volume` at the event clock's time; one that stops holding is logged."""
    now = ctx.clock.now()
    for spec in ctx.specs.all(StreamSpec):
        for rule in spec.expect:
            if isinstance(rule, Fresh):
                _note(ctx, spec.name, rule.name, freshness(ctx, spec, rule, now), now)
            elif isinstance(rule, Volume):
                _note(ctx, spec.name, rule.name, volume(ctx, spec, rule, now), now)


def freshness(ctx: Context, spec: StreamSpec, rule: Fresh, now: int) -> Judgement:
    """By the newest accepted event time."""
    allowed = f"at most {rule.within / SECOND:g} s old"
    newest = watermark(ctx, spec.name)
    if newest is None:
        return None, "no event yet", allowed
    age = max(0, now - newest)
    return age <= rule.within, f"{age / SECOND:g} s old, of {format_time(newest)}", allowed


def volume(ctx: Context, spec: StreamSpec, rule: Volume, now: int) -> Judgement:
    """By the event times of the events in the lake; the last period is the last whole one. Empty periods before the first
    event are none."""
    last = now // rule.per - 1
    counts = _counts(ctx, spec, rule.per, last - rule.over, last)
    before = [counts.get(period, 0) for period in range(min(counts, default=last), last)]
    if len(before) < FEWEST_PERIODS:
        return None, f"{len(before)} periods before {format_time(last * rule.per)}", f"needs {FEWEST_PERIODS}"
    usual, found = median(before), counts.get(last, 0)
    good = rule.low * usual <= found <= rule.high * usual
    return good, f"{found} events from {format_time(last * rule.per)}", f"{rule.low * usual:g} to {rule.high * usual:g}"


def _counts(ctx: Context, spec: StreamSpec, per: int, first: int, last: int) -> dict[int, int]:
    """Events in the lake per period of event time, of the periods `first` to `last`."""
    table = table_of(ctx, spec.name)
    if ctx.lake.version(table) < 0:
        return {}
    time = pl.col(spec.time).dt.epoch("us")
    start, end = (pl.lit(period * per).cast(pl.Datetime("us", "UTC")) for period in (first, last + 1))
    events = ctx.lake.scan(table).filter(pl.col(spec.time).is_between(start, end, "left"))
    return dict(events.group_by((time // per).alias("period")).agg(pl.len()).collect().rows())


def _note(ctx: Context, stream: str, rule: str, judgement: Judgement, now: int) -> None:
    good, found, allowed = judgement
    table = STREAM_CHECKS
    own = (table.c.system == ctx.system) & (table.c.stream == stream) & (table.c.rule == rule)
    values = {"good": good, "found": found, "allowed": allowed, "judged_at": now}
    with ctx.catalog.transaction() as connection:
        before = connection.execute(select(table.c.good, table.c.since).where(own)).first()
        since = before.since if before is not None and before.good == good else now
        connection.execute(table.delete().where(own))
        connection.execute(table.insert().values(system=ctx.system, stream=stream, rule=rule, since=since, **values))
    if good is False and (before is None or before.good is not False):
        LOG.warning("contract.broken", stream=stream, rule=rule, found=found, allowed=allowed)
