from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from release_world import START, Serving, opened, ticked, with_champion
from sqlalchemy import func, select

from headrace.engines.context import Context
from headrace.kernel.errors import Conflict, InvalidInput, NotFound
from headrace.kernel.identity import Principal, Role
from headrace.kernel.times import DAY, HOUR
from headrace.ledger.tables import OUTBOX
from headrace.release import deployments, rollouts
from headrace.release.guards import BY_CHALLENGER
from headrace.release.stepping import tick
from headrace.release.tables import rollout_entities
from headrace.release.tables import rollouts as rollout_rows
from headrace.release.types import Policy, canary, shadow
from headrace.serving.routes import route
from headrace.serving.types import RouteTable

CANARY_ONLY = Policy(tuple(canary(5, 25, 100)))


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return opened(tmp_path / "data")


def routes(ctx: Context) -> RouteTable:
    with ctx.catalog.reading() as connection:
        found = route(connection, ctx.system, "scoring")
    assert found is not None
    return found


def canary_entities(ctx: Context, rollout: str) -> int:
    """How many entities the challenger answered before weight 1: those whose requests it could spoil."""
    mine = (rollout_entities.c.rollout == rollout) & (rollout_entities.c.bits.op("&")(BY_CHALLENGER) != 0)
    with ctx.catalog.reading() as connection:
        return connection.execute(select(func.count()).where(mine)).scalar_one()


def test_the_first_version_is_champion_at_once(ctx: Context) -> None:
    started = rollouts.start(ctx, "scoring", 1, reason="first")
    assert (started.state, started.champion, started.challenger) == ("promoted", None, 1)
    assert routes(ctx) == RouteTable("scoring", 1, 1)
    assert tick(ctx, "scoring") is None
    with pytest.raises(Conflict):
        rollouts.rollback(ctx, "scoring", "there is nothing before it")


def test_a_sound_challenger_goes_all_the_way(ctx: Context) -> None:
    serving = with_champion(ctx)
    started = rollouts.start(ctx, "scoring", 2, reason="better")
    assert (started.state, started.weight, started.salt) == ("warming", 0.0, started.id)
    assert ticked(ctx).state == "warming", "no worker has it warm"
    serving.acknowledge()
    assert ticked(ctx).state == "shadow"
    assert routes(ctx).shadows == (2,)
    serving.requests(400, over=HOUR // 2)
    assert ticked(ctx).state == "shadow", "it has not lasted an hour"
    serving.requests(400, over=HOUR // 2)
    for weight in (0.05, 0.25, 1.0):
        now = ticked(ctx)
        assert (now.state, now.weight, routes(ctx).weight, routes(ctx).champion) == ("canary", weight, weight, 1)
        serving.requests(2500, over=DAY)
    assert ticked(ctx).state == "probation"
    assert (routes(ctx).champion, routes(ctx).challenger, routes(ctx).shadows) == (1, 2, (1,))
    serving.requests(500, over=4 * DAY)
    serving.requests(500, over=4 * DAY)
    assert ticked(ctx).state == "probation", "no label is known"
    serving.report(ctx.clock.now())
    ended = ticked(ctx)
    assert (ended.state, routes(ctx)) == ("promoted", RouteTable("scoring", routes(ctx).generation, 2))
    assert "late labels: log loss +0.0000" in ended.events[-1].reason
    assert [e.to for e in ended.events] == ["warming", "shadow", "canary", "canary", "canary", "probation", "promoted"]
    assert ended.requests["spoilt"] == 0 and serving.failed_clients == 0
    assert {g.name: g.verdict for g in ended.guards} == dict.fromkeys(
        ["errors", "latency", "sample_ratio", "predictions", "non_inferiority"], "ok"
    )


def half(version: int, amount: float, rng: np.random.Generator) -> float | None:
    return None if version == 2 and rng.random() < 0.5 else amount


def test_a_sabotaged_challenger_is_rolled_back_and_clients_see_no_error(ctx: Context) -> None:
    serving = with_champion(ctx)
    serving.score = half
    rollouts.start(ctx, "scoring", 2, policy=CANARY_ONLY)
    serving.acknowledge()
    assert ticked(ctx).weight == 0.05
    for _ in range(100):
        serving.requests(20, over=HOUR // 20)
        if ticked(ctx).state == "rolled_back":
            break
    ended = rollouts.status(ctx, "scoring")
    assert ended.state == "rolled_back" and "guard errors" in ended.events[-1].reason
    assert routes(ctx).champion == 1 and routes(ctx).challenger is None
    assert 3 <= ended.requests["spoilt"] <= 40
    assert canary_entities(ctx, ended.id) <= 20
    assert serving.failed_clients == 0


def test_a_sabotaged_challenger_spoils_nothing_where_it_shadows_first(ctx: Context) -> None:
    serving = with_champion(ctx)
    serving.score = half
    rollouts.start(ctx, "scoring", 2)
    serving.acknowledge()
    ticked(ctx)
    serving.requests(100)
    ended = ticked(ctx)
    assert ended.state == "rolled_back" and ended.requests["spoilt"] == 0
    assert canary_entities(ctx, ended.id) == 0


def test_a_failure_of_its_own_is_no_change_by_somebody_else(ctx: Context) -> None:
    serving = with_champion(ctx)
    rollouts.start(ctx, "scoring", 2)
    serving.acknowledge()
    ticked(ctx)
    with ctx.catalog.transaction() as connection:
        connection.execute(rollout_rows.update().where(rollout_rows.c.state == "shadow").values(step=99))
    with pytest.raises(IndexError):
        tick(ctx, "scoring")


def test_an_ill_scoring_challenger_is_held(ctx: Context) -> None:
    serving = with_champion(ctx)
    serving.score = lambda version, amount, rng: 0.5 if version == 2 else amount
    rollouts.start(ctx, "scoring", 2)
    serving.acknowledge()
    ticked(ctx)
    serving.requests(300)
    held = ticked(ctx)
    assert held.state == "held" and "scores differ" in held.events[-1].reason
    assert routes(ctx).champion == 1
    rollouts.resume(ctx, "scoring", "it is meant to")
    assert ticked(ctx).weight == 0.05


def test_worse_late_labels_roll_back_from_probation(ctx: Context) -> None:
    serving = with_champion(ctx)
    serving.score = lambda version, amount, rng: amount if version == 1 else min(1.0, max(0.0, 0.18 - amount))
    policy = Policy((*canary(100), *hr_probation()), score_tolerance=0.5)
    rollouts.start(ctx, "scoring", 2, policy=policy)
    serving.acknowledge()
    ticked(ctx)
    serving.requests(1500, over=DAY)
    assert ticked(ctx).state == "probation"
    serving.requests(200, over=8 * DAY)
    serving.report(ctx.clock.now())
    ended = ticked(ctx)
    assert ended.state == "rolled_back" and "late labels" in ended.events[-1].reason
    assert routes(ctx).champion == 1


def hr_probation() -> tuple[object, ...]:
    from headrace.release.types import probation

    return tuple(probation("8d"))


def test_no_traffic_means_hold(ctx: Context) -> None:
    serving = with_champion(ctx)
    rollouts.start(ctx, "scoring", 2, policy=CANARY_ONLY)
    serving.acknowledge()
    ticked(ctx)
    ctx.clock.set(ctx.clock.now() + 100 * DAY)
    quiet = ticked(ctx)
    assert (quiet.state, quiet.weight) == ("canary", 0.05)
    serving.requests(300, over=DAY)
    assert ticked(ctx).weight == 0.05, "300 requests at 5 % are too few canary requests"


def test_a_version_that_no_worker_can_warm_is_rolled_back(ctx: Context) -> None:
    serving = with_champion(ctx)
    rollouts.start(ctx, "scoring", 2)
    serving.acknowledge({2: "its golden rows differ"})
    ended = ticked(ctx)
    assert ended.state == "rolled_back" and "its golden rows differ" in ended.events[-1].reason


def test_a_person_holds_resumes_promotes_and_rolls_back(ctx: Context) -> None:
    serving = with_champion(ctx)
    with pytest.raises(NotFound):
        rollouts.start(ctx, "scorings", 2)
    with pytest.raises(InvalidInput):
        rollouts.start(ctx, "scoring", 1)
    ann = ctx.acting(Principal("k1", "ann", Role.OPERATOR))
    rollouts.start(ann, "scoring", 2, policy=Policy(tuple(shadow("1h") >> canary(50))))
    with pytest.raises(Conflict):
        rollouts.start(ctx, "scoring", 3)
    serving.acknowledge()
    ticked(ctx)
    assert rollouts.hold(ann, "scoring", "lunch").state == "held"
    serving.requests(500, over=2 * HOUR)
    assert ticked(ctx).state == "held"
    assert rollouts.resume(ann, "scoring", "back").state == "shadow"
    with pytest.raises(Conflict):
        rollouts.resume(ann, "scoring", "twice")
    assert ticked(ctx).state == "canary"
    promoted = rollouts.promote(ann, "scoring", "it is good")
    assert promoted.state == "promoted" and routes(ctx).champion == 2
    assert (promoted.events[-1].by, promoted.events[-1].reason) == ("ann", "it is good")
    with pytest.raises(Conflict):
        rollouts.hold(ann, "scoring", "too late")
    assert rollouts.rollback(ann, "scoring", "it was not").state == "rolled_back"
    assert routes(ctx).champion == 1
    with pytest.raises(Conflict):
        rollouts.rollback(ann, "scoring", "again")


def test_guards_still_roll_back_while_a_person_holds(ctx: Context) -> None:
    serving = with_champion(ctx)
    serving.score = half
    rollouts.start(ctx, "scoring", 2, policy=Policy(tuple(canary(50))))
    serving.acknowledge()
    ticked(ctx)
    rollouts.hold(ctx, "scoring", "look at it")
    serving.requests(200)
    assert ticked(ctx).state == "rolled_back"


def test_a_policy_with_a_person_waits_before_everything_is_given(ctx: Context) -> None:
    serving = with_champion(ctx)
    rollouts.start(ctx, "scoring", 2, policy=Policy(tuple(shadow("1h") >> canary(50)), approve="person"))
    serving.acknowledge()
    ticked(ctx)
    serving.requests(600)
    assert ticked(ctx).state == "canary"
    serving.requests(600, over=DAY)
    held = ticked(ctx)
    assert held.state == "held" and "a person approves" in held.events[-1].reason
    rollouts.resume(ctx, "scoring", "approved")
    assert ticked(ctx).state == "promoted"


def test_what_was_live_at_a_time_has_an_answer(ctx: Context) -> None:
    assert deployments.live_at(ctx, "scoring", START) is None
    with_champion(ctx)
    rollouts.start(ctx, "scoring", 2)
    ctx.clock.set(START + 5 * HOUR)
    rollouts.promote(ctx, "scoring", "now")
    assert [d.generation for d in deployments.history(ctx, "scoring")] == [3, 2, 1]
    for hours, champion in ((0, 1), (4, 1), (5, 2), (50, 2)):
        live = deployments.live_at(ctx, "scoring", START + hours * HOUR)
        assert live is not None and live.champion == champion
    with ctx.catalog.reading() as connection:
        kinds = list(connection.execute(select(OUTBOX.c.kind).order_by(OUTBOX.c.sequence)).scalars())
    assert kinds == ["registry.approve"] * 3 + [
        "deployment.changed", "rollout.promoted", "deployment.changed", "rollout.warming", "deployment.changed",
        "rollout.promoted",
    ]  # fmt: skip


def test_a_failed_start_leaves_nothing(ctx: Context) -> None:
    serving = Serving(ctx)
    with pytest.raises(NotFound):
        rollouts.start(ctx, "scoring", 99)
    assert deployments.history(ctx, "scoring") == [] and serving.log.end == 0
    with pytest.raises(NotFound):
        rollouts.status(ctx, "scoring")
