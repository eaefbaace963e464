"""How the contract of each stream held, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from headrace.data.tables import CONTRACT_RESULTS, STREAM_CHECKS
from headrace.data.types import Fresh, StreamSpec, Volume
from headrace.engines.context import Context
from headrace.kernel.times import DAY, format_time

KEPT = 1000
"""Rows of single batches per stream; older ones are summed."""
SHOWN = 20
LATELY = DAY
"""Event-clock microseconds for which a rule that did not hold is shown with the state of the system."""
_SUM = -1


@dataclass(frozen=True, slots=True)
class RuleResult:
    """How many events a rule refused or warned of in all, and when last."""

    rule: str
    severity: str
    failed: int
    last_at: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A rule that did not hold in the batch of `events` events that begins at position `first`."""

    first: int
    events: int
    rule: str
    severity: str
    failed: int
    at: str


@dataclass(frozen=True, slots=True)
class StreamCheck:
    """A rule of a stream as a whole; `good` is None while too little is known, and has been so `since`."""

    rule: str
    good: bool | None
    found: str
    allowed: str
    judged_at: str
    since: str


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that did not hold lately: events that it refused or warned of in all and when last, or what was found of the
    stream as a whole (`failed` None) and since when."""

    stream: str
    rule: str
    severity: str
    failed: int | None
    found: str
    last_at: str


@dataclass(frozen=True, slots=True)
class ContractReport:
    """How the contract of a stream held: in all by rule, as a whole, and in the newest batches in which it did not."""

    stream: str
    rules: list[RuleResult]
    checks: list[StreamCheck]
    batches: list[BatchResult]


def record(ctx: Context, stream: str, first: int, events: int, refused: Mapping[str, int], warned: Mapping[str, int]) -> None:
    """Note how often each rule did not hold in the batch that begins at position `first`. A batch that is applied again
    after a kill is noted again, in the place of the first time."""
    found = {"quarantine": refused, "warn": warned}
    rows = [
        {"system": ctx.system, "stream": stream, "first": first, "rule": rule, "severity": severity, "events": events,
         "failed": failed, "at": ctx.clock.now()}
        for severity, rules in found.items() for rule, failed in rules.items() if failed
    ]  # fmt: skip
    if not rows:
        return
    table = CONTRACT_RESULTS
    own = (table.c.system == ctx.system) & (table.c.stream == stream)
    with ctx.catalog.transaction() as connection:
        connection.execute(table.delete().where(own & (table.c.first == first)))
        connection.execute(table.insert(), rows)
        single = own & (table.c.first != _SUM)
        if connection.execute(select(func.count()).select_from(table).where(single)).scalar_one() <= KEPT:
            return
        newest = select(table.c.at).where(single).order_by(table.c.at.desc()).limit(1).offset(KEPT // 2)
        old = own & ((table.c.at < connection.execute(newest).scalar_one()) | (table.c.first == _SUM))
        sums = select(
            table.c.rule, table.c.severity, func.sum(table.c.events), func.sum(table.c.failed), func.max(table.c.at)
        )  # fmt: skip
        found_sums = connection.execute(sums.where(old).group_by(table.c.rule, table.c.severity)).all()
        connection.execute(table.delete().where(old))
        for rule, severity, count, failed, at in found_sums:
            values = {"rule": rule, "severity": severity, "events": count, "failed": failed, "at": at}
            connection.execute(table.insert().values(system=ctx.system, stream=stream, first=_SUM, **values))


def report(ctx: Context, stream: str) -> ContractReport:
    """How the contract of the stream held. NotFound for an undeclared one."""
    ctx.specs.get(StreamSpec, stream)
    table = CONTRACT_RESULTS
    own = (table.c.system == ctx.system) & (table.c.stream == stream)
    batches = select(table).where(own & (table.c.first != _SUM)).order_by(table.c.at.desc(), table.c.first.desc(), table.c.rule)
    with ctx.catalog.reading() as connection:
        newest = [
            BatchResult(row.first, row.events, row.rule, row.severity, row.failed, format_time(row.at))
            for row in connection.execute(batches.limit(SHOWN))
        ]
    return ContractReport(stream, rule_results(ctx, stream), stream_checks(ctx, stream), newest)


def broken_lately(ctx: Context) -> list[BrokenRule]:
    """Of every declared stream the rules that did not hold within the last day, and `hr.fresh` and `hr.volume` that do not
    hold now."""
    found, since = [], ctx.clock.now() - LATELY
    for spec in ctx.specs.all(StreamSpec):
        for result in rule_results(ctx, spec.name, since):
            shown = f"{result.failed} {'refused' if result.severity == 'quarantine' else 'warned of'}"
            found.append(BrokenRule(spec.name, result.rule, result.severity, result.failed, shown, result.last_at))
        for check in stream_checks(ctx, spec.name):
            if check.good is False:
                shown = f"{check.found}; allowed: {check.allowed}"
                found.append(BrokenRule(spec.name, check.rule, "warn", None, shown, check.since))
    return found


def rule_results(ctx: Context, stream: str, since: int | None = None) -> list[RuleResult]:
    """How many events each rule refused or warned of, in all; with `since` (event-clock microseconds) of the rules that did
    so from then on."""
    table = CONTRACT_RESULTS
    last = func.max(table.c.at)
    sums = select(table.c.rule, table.c.severity, func.sum(table.c.failed), last)
    own = (table.c.system == ctx.system) & (table.c.stream == stream)
    sums = sums.where(own).group_by(table.c.rule, table.c.severity).order_by(table.c.rule)
    with ctx.catalog.reading() as connection:
        rows = connection.execute(sums if since is None else sums.having(last >= since)).all()
    return [RuleResult(rule, severity, int(failed), format_time(at)) for rule, severity, failed, at in rows]


def stream_checks(ctx: Context, stream: str) -> list[StreamCheck]:
    """The last judgements of the declared `hr.fresh` and `hr.volume` of the stream."""
    table = STREAM_CHECKS
    declared = [rule.name for rule in ctx.specs.get(StreamSpec, stream).expect if isinstance(rule, Fresh | Volume)]
    own = (table.c.system == ctx.system) & (table.c.stream == stream) & table.c.rule.in_(declared)
    with ctx.catalog.reading() as connection:
        rows = connection.execute(select(table).where(own).order_by(table.c.rule)).all()
    return [
        StreamCheck(row.rule, row.good, row.found, row.allowed, format_time(row.judged_at), format_time(row.since))
        for row in rows
    ]
