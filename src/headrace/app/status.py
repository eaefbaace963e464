"""`headrace status`: one record of how the system does, for the command, the route and the status page."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import headrace
from headrace.data.contract_results import BrokenRule, broken_lately
from headrace.data.positions import positions
from headrace.data.status import stream_status
from headrace.data.types import StreamSpec, StreamStatus
from headrace.engines.context import Context
from headrace.features.view_lag import view_lags
from headrace.kernel.clocks import MACHINE
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.kernel.times import SECOND, format_time
from headrace.monitoring.alarms import alarms
from headrace.monitoring.types import Alarm
from headrace.registry.types import ModelVersion
from headrace.registry.versions import versions
from headrace.release import store
from headrace.release.live import needed_views
from headrace.release.types import Rollout
from headrace.serving import routes
from headrace.serving.parity_results import ParityResult, last_results
from headrace.serving.types import ServiceSpec
from headrace.training.runs import runs
from headrace.training.types import ModelSpec, Run

SHOWN = 10
"""Alarms, runs and versions on the status; their own commands list all."""


@dataclass(frozen=True, slots=True)
class StreamHealth(StreamStatus):
    """A stream as the status shows it. `staleness_s`: how long its oldest event that is not applied has waited."""

    staleness_s: float


@dataclass(frozen=True, slots=True)
class ViewHealth:
    """A view whose state is kept online. `lag`: records that its streams have applied and its state has not, all of its history
    while it is built; `staleness_s`: how long the oldest of them has been in the log. `definition` tells two of one name."""

    view: str
    definition: str
    stream: str
    lag: int
    staleness_s: float


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What a service serves. `champion` is None before its first release; `rollout` is the one in progress."""

    service: str
    model: str
    champion: int | None
    challenger: int | None
    weight: float
    predictions: int
    rollout: Rollout | None


@dataclass(frozen=True, slots=True)
class Status:
    system: str
    file: str | None
    version: str
    now: str
    clock: str
    streams: list[StreamHealth]
    views: list[ViewHealth]
    contracts: list[BrokenRule]
    services: list[ServiceHealth]
    parity: list[ParityResult]
    alarms: list[Alarm]
    rollouts: list[Rollout]
    runs: list[Run]
    versions: list[ModelVersion]


@operation("system.status", permission=Permission.READ, http="GET /status", cli="status")
def status(ctx: Context) -> Status:
    """Show streams and views with their staleness, contract rules that did not hold in the last day, champions, the last
    parity checks, rollouts in progress, and the last alarms, runs and versions."""
    models = ctx.specs.all(ModelSpec)
    newest = sorted((v for model in models for v in versions(ctx, model.name)), key=lambda v: v.created_at, reverse=True)
    return Status(
        system=ctx.system,
        file=ctx.file,
        version=headrace.__version__,
        now=format_time(ctx.clock.now()),
        clock="virtual" if ctx.clock.virtual else "real",
        streams=stream_health(ctx),
        views=view_health(ctx),
        contracts=broken_lately(ctx),
        services=service_health(ctx),
        parity=last_results(ctx),
        alarms=alarms(ctx)[:SHOWN],
        rollouts=all_rollouts(ctx)[:SHOWN],
        runs=[run for run in runs(ctx) if run.parent is None][:SHOWN],
        versions=newest[:SHOWN],
    )


def stream_health(ctx: Context) -> list[StreamHealth]:
    """Every declared stream."""
    now = MACHINE.now()
    found = []
    for spec, s in zip(ctx.specs.all(StreamSpec), stream_status(ctx), strict=True):
        topic, applied = ctx.namespace.stream(spec.name), positions(ctx, spec) if s.lag else []
        waiting = [ctx.events.read(topic, part, at.next_offset, max_records=1) for part, at in enumerate(applied)]
        waited = (now - min((records.timestamps[0] for records in waiting if records), default=now)) / SECOND
        found.append(StreamHealth(**asdict(s), staleness_s=round(max(waited, 0.0), 3)))
    return found


def view_health(ctx: Context) -> list[ViewHealth]:
    """Every view that is declared or that a live version still reads."""
    return [
        ViewHealth(
            found.view.name,
            found.view.definition_hash,
            found.view.stream,
            found.lag,
            round(max(found.staleness / SECOND, 0.0), 3),
        )
        for found in view_lags(ctx, needed_views(ctx))
    ]


def service_health(ctx: Context) -> list[ServiceHealth]:
    """Every declared service."""
    with ctx.catalog.reading() as connection:
        tables = routes.published(connection, ctx.system)
        rollouts = {spec.name: store.newest(connection, ctx.system, spec.name) for spec in ctx.specs.all(ServiceSpec)}
        active = {
            name: store.shape(connection, state)
            for name, state in rollouts.items()
            if state is not None and state.state in store.ACTIVE
        }
    found = []
    for spec in ctx.specs.all(ServiceSpec):
        table, predictions = tables.get(spec.name), ctx.events.end(ctx.namespace.predictions(spec.name), 0)
        serving = (None, None, 0.0) if table is None else (table.champion, table.challenger, table.weight)
        found.append(ServiceHealth(spec.name, spec.model.name, *serving, predictions, active.get(spec.name)))
    return found


def all_rollouts(ctx: Context) -> list[Rollout]:
    """Every rollout, the newest first."""
    with ctx.catalog.reading() as connection:
        return [store.shape(connection, state) for state in store.every(connection, ctx.system)]


def rollout_of(ctx: Context, identifier: str) -> Rollout:
    """The rollout of that id; NotFound lists the known ones."""
    with ctx.catalog.reading() as connection:
        return store.shape(connection, store.by_id(connection, ctx.system, identifier))
