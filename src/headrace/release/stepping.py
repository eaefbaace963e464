"""Moving rollouts by policy: read the new predictions, let the guards judge, leave a step when its time, its data and its
evidence are there."""

from __future__ import annotations

from itertools import islice

from msgspec.structs import replace

from headrace.engines.context import Context
from headrace.kernel.identity import SYSTEM
from headrace.kernel.times import format_time
from headrace.release import probation, store
from headrace.release.deployments import steps_of
from headrace.release.guards import verdicts
from headrace.release.moves import enter, finish, hold_at
from headrace.release.observing import bits_of, entities_of, observe, save_bits, slow_above
from headrace.release.store import Changed, State
from headrace.release.types import Guard, Rollout
from headrace.serving.reading import prediction_records
from headrace.serving.routes import acknowledged, acknowledgements
from headrace.serving.types import ServiceSpec

RECORDS_AT_ONCE = 4096


def tick(ctx: Context, service: str) -> Rollout | None:
    """Decide all that can be decided now about the rollout in progress and return it; None when there is none.

    Acts as the system. Evidence, offset, routes and audit record of one decision are one transaction: killed anywhere
    and started again it decides the same.
    """
    ctx = ctx.acting(SYSTEM)
    spec = ctx.specs.get(ServiceSpec, service)
    with ctx.catalog.reading() as connection:
        state = store.newest(connection, ctx.system, service)
    if state is None or state.state not in store.ACTIVE:
        return None
    while state.state in store.ACTIVE:
        try:
            after = _advance(ctx, spec, state)
        except Changed:  # judge again what it is now
            with ctx.catalog.reading() as connection:
                state = store.by_id(connection, ctx.system, state.id)
            continue
        if after is None:
            break
        state = after
    with ctx.catalog.reading() as connection:
        return store.shape(connection, store.by_id(connection, ctx.system, state.id))


def _advance(ctx: Context, spec: ServiceSpec, state: State) -> State | None:
    """One decision, or None when there is nothing to decide at this time. Changed: the row was, meanwhile."""
    if state.step < 0:
        return None if state.state == "held" else _warm(ctx, spec, state)
    read = _read(ctx, spec, state)
    if read is not None:
        return read
    if state.state == "held":
        return None
    found = {guard.name: guard for guard in verdicts(state.evidence.guards, state.policy)}
    if found["predictions"].verdict == "hold" and not state.evidence.accepted:
        reason = f"the scores differ by more than {state.policy.score_tolerance}: e = {found['predictions'].e:.0f}"
        with ctx.catalog.transaction() as connection:
            return hold_at(connection, ctx, state, reason)
    if state.state == "probation":
        return _judge(ctx, spec, state)
    return _leave(ctx, spec, state, found["non_inferiority"])


def _warm(ctx: Context, spec: ServiceSpec, state: State) -> State | None:
    for worker, ack in acknowledgements(ctx, spec.name).items():
        if ack.generation >= state.generation and state.challenger in ack.failed:
            with ctx.catalog.transaction() as connection:
                return finish(connection, ctx, state, "rolled_back", f"{worker} can't warm it: {ack.failed[state.challenger]}")
    if not acknowledged(ctx, spec.name, state.generation):
        return None
    limit = slow_above(ctx, spec, state.next_offset)
    with ctx.catalog.transaction() as connection:
        return enter(connection, ctx, state, 0, "every worker is warm", limit)


def _read(ctx: Context, spec: ServiceSpec, state: State) -> State | None:
    """The state after the next records of the log, rolled back when a guard says so; None at the end of the log."""
    tail = list(islice(prediction_records(ctx, spec.name, state.next_offset), RECORDS_AT_ONCE))
    if not tail:
        return None
    records = [record for _, record in tail]
    with ctx.catalog.reading() as connection:
        routes = steps_of(connection, ctx.system, state.id)
        before = bits_of(connection, state.id, entities_of(state, spec, records))
    bits = dict(before)
    observe(state, spec, routes, records, bits)
    after = replace(state, next_offset=tail[-1][0] + 1)
    fired = [g for g in verdicts(state.evidence.guards, state.policy) if g.verdict == "roll_back"]
    with ctx.catalog.transaction() as connection:
        save_bits(connection, ctx.system, state.id, before, bits)
        if fired:
            why = ", ".join(f"{g.name} (e = {g.e:.0f} >= {g.threshold:.0f})" for g in fired)
            return finish(connection, ctx, after, "rolled_back", f"guard {why}")
        return store.save(connection, after)


def _leave(ctx: Context, spec: ServiceSpec, state: State, non_inferiority: Guard) -> State | None:
    """The next step when this one has lasted, has enough requests of both arms and the evidence; without them it waits.

    What was asked at the present instant has to be past first: the instant of a virtual clock has room for more, and how
    much of it the log holds by now is chance."""
    step, evidence = state.policy.steps[state.step], state.evidence
    fewest = min(evidence.here_champion, evidence.here_challenger)
    now = ctx.clock.now()
    if (
        now < state.entered_at + step.duration
        or now <= evidence.counted_at
        or fewest < state.policy.minimum_requests
        or non_inferiority.verdict != "ok"
    ):
        return None
    following = state.step + 1
    ended = following == len(state.policy.steps)
    last_canary = ended or state.policy.steps[following].state == "probation"
    reason = f"since {format_time(state.entered_at)} {fewest} requests of each arm or more, no guard fired"
    limit = slow_above(ctx, spec, state.next_offset)
    with ctx.catalog.transaction() as connection:
        if last_canary and state.policy.approve == "person" and not evidence.accepted:
            return hold_at(connection, ctx, state, "a person approves: `rollout resume`, `promote` or `rollback`")
        if ended:
            return finish(connection, ctx, state, "promoted", reason)
        return enter(connection, ctx, state, following, reason, limit)


def _judge(ctx: Context, spec: ServiceSpec, state: State) -> State | None:
    known_at = probation.due(ctx, spec, state)
    if known_at is None:
        return None
    judgement = probation.judge(ctx, spec, state, known_at)
    evidence = state.evidence
    evidence.tried_at = known_at
    if judgement is not None:
        evidence.looks, evidence.looked_at_rows = evidence.looks + 1, judgement.rows
    with ctx.catalog.transaction() as connection:
        if judgement is None or judgement.verdict == "wait":
            return store.save(connection, state)
        if judgement.verdict == "hold":
            return hold_at(connection, ctx, state, judgement.reason)
        return finish(connection, ctx, state, judgement.verdict, judgement.reason)
