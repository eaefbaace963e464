"""The moves of a rollout: the routes of each step, entering a step, ending."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace
from sqlalchemy import Connection

from headrace.engines.context import Context
from headrace.release.store import State, change
from headrace.serving.types import RouteTable


def step_routes(state: State) -> RouteTable:
    """The routes of the rollout's present step; their generation is set on publishing. At weight 1 the old champion shadows
    and stays warm: it is what a failed answer falls back to, what the challenger is compared with, and one pointer move
    away."""
    step = None if state.step < 0 else state.policy.steps[state.step]
    shadows: tuple[int, ...] = ()
    if step is not None and step.weight == 0:
        shadows = (state.challenger,)
    elif step is not None and step.weight == 1 and state.champion is not None:
        shadows = (state.champion,)
    weight = 0.0 if step is None else step.weight
    return RouteTable(state.service, 0, state.champion, state.challenger, weight, state.id, shadows, state.id)


def enter(connection: Connection, ctx: Context, state: State, step: int, reason: str, slow_above: int | None) -> State:
    """Enter the policy's step of that index at the event clock's time."""
    before = state.state
    evidence = state.evidence
    evidence.here_champion = evidence.here_challenger = 0
    evidence.slow_above = slow_above
    entered = replace(state, state=state.policy.steps[step].state, step=step, entered_at=ctx.clock.now())
    return change(connection, ctx, entered, step_routes(entered), reason=reason, before=before)


def hold_at(connection: Connection, ctx: Context, state: State, reason: str) -> State:
    """Stay at this step, with its routes, until a person decides."""
    held = replace(state, state="held", held_from=state.state)
    return change(connection, ctx, held, None, reason=reason, before=state.state)


def finish(
    connection: Connection, ctx: Context, state: State, outcome: Literal["promoted", "rolled_back"], reason: str
) -> State:
    """End the rollout: the challenger or the old champion answers everything. One pointer move."""
    champion = state.challenger if outcome == "promoted" else state.champion
    state.evidence.pending.clear()
    ended = replace(state, state=outcome, held_from=None, step=len(state.policy.steps))
    return change(connection, ctx, ended, RouteTable(state.service, 0, champion), reason=reason, before=state.state)
