"""What a person or a policy does to a rollout: start it, hold it, go on, promote, roll back. `tick` is in stepping.py."""

from __future__ import annotations

from msgspec.structs import replace
from sqlalchemy import Connection

from headrace.engines.context import Context
from headrace.kernel.errors import Conflict, InvalidInput, NotFound
from headrace.registry import versions
from headrace.registry.types import ModelVersion
from headrace.release import store
from headrace.release.moves import finish, hold_at, step_routes
from headrace.release.policies import checked, declared_policy
from headrace.release.store import Evidence, State
from headrace.release.types import Policy, Rollout
from headrace.serving.routes import route
from headrace.serving.types import RouteTable, ServiceSpec


def start(ctx: Context, service: str, version: int, *, policy: Policy | None = None, reason: str = "") -> Rollout:
    """Release `version` of the service's model step by step; with no champion yet it is champion at once.

    Raises NotFound for an unknown service or version, Conflict for a version that nobody approved and while another
    rollout of the service is in progress.
    """
    spec = ctx.specs.get(ServiceSpec, service)
    _check_approved(versions.version(ctx, spec.model.name, version))
    chosen = declared_policy(spec) if policy is None else checked(policy)
    offset = ctx.events.end(ctx.namespace.predictions(service), 0)
    with ctx.catalog.transaction() as connection:
        running = store.newest(connection, ctx.system, service)
        if running is not None and running.state in store.ACTIVE:
            raise Conflict(
                f"rollout `{running.id}` of version {running.challenger} is in progress (`{running.state}`)",
                hint=f"promote it or roll it back first: `headrace rollout rollback {service} --reason R`",
            )
        live = route(connection, ctx.system, service)
        champion = None if live is None else live.champion
        if champion == version:
            raise InvalidInput(f"version {version} is already the champion of `{service}`", hint="release another version")
        number = store.next_number(connection, ctx.system, service)
        state = State(
            f"{ctx.system}-{service}-rollout-{number}", service, number, "warming", None, -1, ctx.clock.now(), champion,
            version, 0.0, 0, chosen, offset, offset, Evidence(), 0,
        )  # fmt: skip
        store.insert(connection, ctx.system, state)
        if champion is None:
            state = replace(state, state="promoted", step=len(chosen.steps))
            why = reason or "the first version"
            state = store.change(connection, ctx, state, RouteTable(service, 0, version), reason=why, before="")
        else:
            state = store.change(connection, ctx, state, step_routes(state), reason=reason or "started", before="")
        return store.shape(connection, state)


def status(ctx: Context, service: str) -> Rollout:
    """The rollout in progress, else the last one. NotFound when there was none."""
    ctx.specs.get(ServiceSpec, service)
    with ctx.catalog.reading() as connection:
        return store.shape(connection, _newest(connection, ctx, service))


def hold(ctx: Context, service: str, reason: str) -> Rollout:
    """Stay at this step until somebody resumes, promotes or rolls back; guards still roll back."""
    with ctx.catalog.transaction() as connection:
        state = _active(connection, ctx, service)
        if state.state == "held":
            return store.shape(connection, state)
        return store.shape(connection, hold_at(connection, ctx, state, reason))


def resume(ctx: Context, service: str, reason: str) -> Rollout:
    """Go on with a held rollout where it was held; the policy holds it no more. Conflict when it is not held."""
    with ctx.catalog.transaction() as connection:
        state = _active(connection, ctx, service)
        if state.state != "held" or state.held_from is None:
            raise Conflict(f"rollout `{state.id}` is not held but `{state.state}`", hint="there is nothing to resume")
        state.evidence.accepted = True
        going = replace(state, state=state.held_from, held_from=None)
        return store.shape(connection, store.change(connection, ctx, going, None, reason=reason, before="held"))


def promote(ctx: Context, service: str, reason: str) -> Rollout:
    """Make the challenger champion at once, whatever its step."""
    with ctx.catalog.transaction() as connection:
        state = _active(connection, ctx, service)
        return store.shape(connection, finish(connection, ctx, state, "promoted", reason))


def rollback(ctx: Context, service: str, reason: str) -> Rollout:
    """Give every request back to the old champion: one pointer move. Also after a promotion, if it was the last rollout.

    Conflict when it is already rolled back or when there was no champion before.
    """
    with ctx.catalog.transaction() as connection:
        state = _newest(connection, ctx, service)
        if state.state == "rolled_back":
            raise Conflict(f"rollout `{state.id}` is already rolled back", hint="there is nothing to do")
        if state.champion is None:
            raise Conflict(f"before version {state.challenger} there was no champion", hint="release another version")
        return store.shape(connection, finish(connection, ctx, state, "rolled_back", reason))


def _check_approved(found: ModelVersion) -> None:
    if found.approved_by is None:
        raise Conflict(
            f"nobody has approved version {found.number} of model `{found.name}`; only an approved version is released",
            hint=f'`headrace registry approve {found.name} {found.number} --reason "..."` approves it',
        )


def _newest(connection: Connection, ctx: Context, service: str) -> State:
    state = store.newest(connection, ctx.system, service)
    if state is None:
        raise NotFound(f"`{service}` has had no rollout", hint=f"start one: `headrace rollout start {service} VERSION`")
    return state


def _active(connection: Connection, ctx: Context, service: str) -> State:
    ctx.specs.get(ServiceSpec, service)
    state = _newest(connection, ctx, service)
    if state.state not in store.ACTIVE:
        raise Conflict(f"rollout `{state.id}` has ended (`{state.state}`)", hint="start another one")
    return state
