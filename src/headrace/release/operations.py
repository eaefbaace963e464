"""What users can do with rollouts, and ask of the past."""

from __future__ import annotations

from typing import Any

from headrace.engines.context import Context
from headrace.kernel.errors import NotFound
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.kernel.times import parse_time
from headrace.registry.types import VersionNumber
from headrace.release import deployments, rollouts, store
from headrace.release.policies import parse_policy
from headrace.release.types import Deployment, Rollout
from headrace.serving.types import ServiceSpec


def _service(ctx: Context, name: str) -> str:
    """The service of that name, or of the rollout of that id. NotFound lists the services and the rollouts."""
    services = [spec.name for spec in ctx.specs.all(ServiceSpec)]
    if name in services:
        return name
    with ctx.catalog.reading() as connection:
        found = {state.id: state.service for state in store.every(connection, ctx.system)}
    if name not in found:
        raise NotFound.of("service or rollout", name, [*services, *found])
    return found[name]


@operation("rollout.start", permission=Permission.RELEASE, changes=True, http="POST /rollouts", cli="rollout start")
def start(
    ctx: Context, *, service: str, version: VersionNumber, policy: dict[str, Any] | None = None, reason: str = ""
) -> Rollout:
    """Release VERSION of a service's model step by step, by the declared plan or by a policy."""
    spec = ctx.specs.get(ServiceSpec, service)
    chosen = None if policy is None else parse_policy(policy, spec)
    return rollouts.start(ctx, service, version, policy=chosen, reason=reason)


@operation("rollout.list", permission=Permission.READ, http="GET /rollouts", cli="rollout list")
def listed(ctx: Context) -> list[Rollout]:
    """List every rollout, the newest first."""
    with ctx.catalog.reading() as connection:
        return [store.shape(connection, state) for state in store.every(connection, ctx.system)]


@operation("rollout.status", permission=Permission.READ, http="GET /rollouts/{id}", cli="rollout status")
def status(ctx: Context, *, id: str) -> Rollout:
    """Show the rollout of this ID, or the newest one of the service of this name."""
    service = _service(ctx, id)
    if service == id:
        return rollouts.status(ctx, service)
    with ctx.catalog.reading() as connection:
        return store.shape(connection, store.by_id(connection, ctx.system, id))


@operation("rollout.hold", permission=Permission.RELEASE, changes=True, http="POST /rollouts/{id}/hold", cli="rollout hold")
def hold(ctx: Context, *, id: str, reason: str = "") -> Rollout:
    """Keep the rollout of this service or ID at its step until a person decides. Guards still roll back."""
    return rollouts.hold(ctx, _service(ctx, id), reason)


@operation(
    "rollout.resume", permission=Permission.RELEASE, changes=True, http="POST /rollouts/{id}/resume", cli="rollout resume"
)
def resume(ctx: Context, *, id: str, reason: str = "") -> Rollout:
    """Let the held rollout of this service or ID go on by its policy."""
    return rollouts.resume(ctx, _service(ctx, id), reason)


@operation(
    "rollout.promote", permission=Permission.RELEASE, changes=True, http="POST /rollouts/{id}/promote", cli="rollout promote"
)
def promote(ctx: Context, *, id: str, reason: str = "") -> Rollout:
    """Make the challenger of this service or rollout ID champion at once."""
    return rollouts.promote(ctx, _service(ctx, id), reason)


@operation(
    "rollout.rollback", permission=Permission.RELEASE, changes=True, http="POST /rollouts/{id}/rollback", cli="rollout rollback"
)
def rollback(ctx: Context, *, id: str, reason: str = "") -> Rollout:
    """Give every request of this service or rollout ID back to the old champion."""
    return rollouts.rollback(ctx, _service(ctx, id), reason)


@operation("deployments.list", permission=Permission.READ, http="GET /deployments/{service}", cli="rollout history")
def deployment_history(ctx: Context, *, service: str) -> list[Deployment]:
    """List everything the service has served with, the newest first."""
    return deployments.history(ctx, ctx.specs.get(ServiceSpec, service).name)


@operation("deployments.at", permission=Permission.READ, http="GET /deployments/{service}/at/{at}", cli="rollout at")
def deployment_at(ctx: Context, *, service: str, at: str) -> Deployment | None:
    """Show what the service served with at a time (RFC 3339)."""
    return deployments.live_at(ctx, ctx.specs.get(ServiceSpec, service).name, parse_time(at))
