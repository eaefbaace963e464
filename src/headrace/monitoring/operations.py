"""What users can ask about drift, decay and alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.kernel.times import DAY, LONGEST, duration, format_time, parse_time
from headrace.monitoring.alarms import alarms
from headrace.monitoring.drift import drift, live_cells
from headrace.monitoring.labels import cohorts, known_until
from headrace.monitoring.types import Alarm, DriftReport
from headrace.serving.types import ServiceSpec


@dataclass(frozen=True, slots=True)
class Cohort:
    """The live answers of one asking day and version, as far as their labels are known. Figures are null without any."""

    day: str
    version: int
    predictions: int
    coverage: float
    positives: int
    log_loss: float | None
    average_precision: float | None


@operation("alarms.list", permission=Permission.READ, http="GET /alarms", cli="alarms list")
def list_alarms(ctx: Context, *, service: str | None = None, limit: Annotated[int, Meta(ge=1)] = 100) -> list[Alarm]:
    """List the alarms, the newest first."""
    return alarms(ctx, service, limit=limit)


@operation("drift.show", permission=Permission.READ, http="GET /drift/{service}", cli="drift show")
def show_drift(ctx: Context, *, service: str, window: str = "7d", end: str | None = None) -> DriftReport | None:
    """Show every feature's drift over a window of asking time that ends now, or at END (RFC 3339)."""
    spec = ctx.specs.get(ServiceSpec, service)
    until = ctx.clock.now() if end is None else parse_time(end)
    since = until - duration(window)
    log_end = ctx.events.end(ctx.namespace.predictions(service), 0)
    cells = live_cells(ctx, spec, since // DAY, -(-until // DAY), log_end)
    return drift(ctx, spec, cells, since, until)


@operation("drift.cohorts", permission=Permission.READ, http="GET /drift/{service}/cohorts", cli="drift cohorts")
def show_cohorts(ctx: Context, *, service: str, days: Annotated[int, Meta(ge=1, le=LONGEST // DAY)] = 30) -> list[Cohort]:
    """Show loss and average precision by asking day of the last DAYS days, with the share of labels that have arrived."""
    spec = ctx.specs.get(ServiceSpec, service)
    now = ctx.clock.now()
    frame = cohorts(ctx, spec, start=now - days * DAY, end=now + 1, known_at=known_until(ctx, spec, now))
    return [
        Cohort(format_time(row["day"] * DAY)[:10], row["version"], row["predictions"], row["coverage"], row["positives"],
               row["log_loss"], row["average_precision"])
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip
