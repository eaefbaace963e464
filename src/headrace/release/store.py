"""Rollouts as rows: reading them, and changing one together with its event, its routes and its audit record."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict, replace
from sqlalchemy import Connection, Row, desc, func, select

from headrace.engines.context import Context
from headrace.kernel.errors import NotFound
from headrace.kernel.times import format_time
from headrace.ledger import outbox
from headrace.release.deployments import deploy
from headrace.release.guards import GuardState, verdicts
from headrace.release.tables import rollout_events, rollouts
from headrace.release.types import Policy, Rollout, RolloutEvent, RolloutState
from headrace.serving.types import RouteTable

ACTIVE = ("warming", "shadow", "canary", "probation", "held")


class Evidence(msgspec.Struct):
    """What a rollout knows from the prediction log: requests by arm in all, and `here` in the present step; `pending` live
    answers (error, score) by prediction id whose shadow has not come yet; answers above `slow_above` microseconds are slow.

    Probation has taken `looks` at the late labels, the last on `looked_at_rows` rows; at its last try they were known up
    to event time `tried_at`. `accepted`: a person resumed the rollout, so that the policy holds it no more. `counted_at`:
    event time of the newest request counted in the present step.
    """

    guards: GuardState = msgspec.field(default_factory=GuardState)
    champion: int = 0
    challenger: int = 0
    spoilt: int = 0
    here_champion: int = 0
    here_challenger: int = 0
    pending: dict[str, tuple[bool, float | None]] = msgspec.field(default_factory=dict)
    slow_above: int | None = None
    looks: int = 0
    looked_at_rows: int = 0
    tried_at: int = -(10**18)
    accepted: bool = False
    counted_at: int = -(10**18)


class Changed(Exception):
    """Somebody else has changed the row since it was read."""


class State(msgspec.Struct, frozen=True):
    """One rollout row, decoded. `save` writes a changed copy; only `evidence` is changed in place."""

    id: str
    service: str
    number: int
    state: RolloutState
    held_from: RolloutState | None
    step: int
    entered_at: int
    champion: int | None
    challenger: int
    weight: float
    generation: int
    policy: Policy
    first_offset: int
    next_offset: int
    evidence: Evidence
    revision: int


def _state(row: Row[Any]) -> State:
    values = dict(row._mapping)
    del values["system"]
    values["policy"] = msgspec.json.decode(row.policy, type=Policy)
    values["evidence"] = msgspec.json.decode(values.pop("guards"), type=Evidence)
    return State(**values)


def _values(state: State) -> dict[str, Any]:
    values = asdict(state)
    values["policy"] = msgspec.json.encode(state.policy).decode()
    values["guards"] = msgspec.json.encode(values.pop("evidence"))
    return values


def newest(connection: Connection, system: str, service: str) -> State | None:
    """The last rollout of the service, active or not."""
    mine = (rollouts.c.system == system) & (rollouts.c.service == service)
    row = connection.execute(select(rollouts).where(mine).order_by(desc(rollouts.c.number)).limit(1)).first()
    return None if row is None else _state(row)


def by_id(connection: Connection, system: str, identifier: str) -> State:
    """The rollout of that id; NotFound lists the known ones."""
    row = connection.execute(select(rollouts).where((rollouts.c.system == system) & (rollouts.c.id == identifier))).first()
    if row is None:
        known = connection.execute(select(rollouts.c.id).where(rollouts.c.system == system)).scalars()
        raise NotFound.of("rollout", identifier, known)
    return _state(row)


def every(connection: Connection, system: str) -> list[State]:
    """All rollouts of the system, the newest first."""
    query = select(rollouts).where(rollouts.c.system == system).order_by(desc(rollouts.c.number), rollouts.c.service)
    return [_state(row) for row in connection.execute(query)]


def next_number(connection: Connection, system: str, service: str) -> int:
    query = select(func.max(rollouts.c.number)).where((rollouts.c.system == system) & (rollouts.c.service == service))
    return (connection.execute(query).scalar() or 0) + 1


def insert(connection: Connection, system: str, state: State) -> None:
    connection.execute(rollouts.insert().values(system=system, **_values(state)))


def save(connection: Connection, state: State) -> State:
    """Write the row if nobody changed it since it was read; else Changed. Returns it with its new revision."""
    saved = replace(state, revision=state.revision + 1)
    query = rollouts.update().where((rollouts.c.id == state.id) & (rollouts.c.revision == state.revision))
    if connection.execute(query.values(**_values(saved))).rowcount != 1:
        raise Changed(state.id)
    return saved


def note(connection: Connection, ctx: Context, state: State, before: str, reason: str, at: int) -> None:
    """Append the event of a change, with its evidence in the audit record."""
    connection.execute(
        rollout_events.insert().values(
            system=ctx.system, rollout=state.id, at=at, from_state=before, to_state=state.state, by=ctx.principal.name,
            reason=reason,
        )
    )  # fmt: skip
    shown = shape(connection, state)
    evidence = {"requests": shown.requests, "guards": {g.name: g.e for g in shown.guards}}
    payload = {"from": before, "to": state.state, "step": state.step, "reason": reason, "service": state.service, **evidence}
    outbox.record(connection, ctx.system, f"rollout.{state.state}", state.id, payload, ctx.principal, at)


def change(connection: Connection, ctx: Context, state: State, table: RouteTable | None, *, reason: str, before: str) -> State:
    """Save a changed rollout with its event and, unless None, new routes: one transaction, the caller's."""
    at = ctx.clock.now()
    if table is not None:
        step = state.step if table.rollout == state.id else None
        generation = deploy(connection, ctx, table, step=step, reason=reason, at=at)
        state = replace(state, generation=generation, weight=table.weight)
    saved = save(connection, state)
    note(connection, ctx, saved, before, reason, at)
    return saved


def shape(connection: Connection, state: State) -> Rollout:
    """The rollout as every door shows it."""
    rows = connection.execute(
        select(rollout_events).where(rollout_events.c.rollout == state.id).order_by(rollout_events.c.sequence)
    )
    events = [RolloutEvent(format_time(r.at), r.from_state, r.to_state, r.by, r.reason) for r in rows]
    evidence = state.evidence
    requests = {"champion": evidence.champion, "challenger": evidence.challenger, "spoilt": evidence.spoilt}
    return Rollout(
        state.id, state.service, state.state, state.champion, state.challenger, state.weight, state.id, requests,
        verdicts(evidence.guards, state.policy), events,
    )  # fmt: skip
