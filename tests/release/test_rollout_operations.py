from __future__ import annotations

from pathlib import Path

import pytest
from release_world import opened, register, ticked, with_champion

from headrace.engines.context import Context
from headrace.kernel.errors import Conflict, InvalidInput, NotFound
from headrace.registry import versions
from headrace.release import deployments, operations
from headrace.serving.routes import route


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return opened(tmp_path / "data")


def test_a_rollout_is_found_by_its_id_and_by_its_service(ctx: Context) -> None:
    serving = with_champion(ctx)
    with pytest.raises(InvalidInput):
        operations.start(ctx, service="scoring", version=2, policy={"steps": [{"canary": 200}]})
    started = operations.start(ctx, service="scoring", version=2, policy={"steps": [{"canary": 50, "each": "1h"}]}, reason="r")
    serving.acknowledge()
    ticked(ctx)
    assert operations.status(ctx, id="scoring") == operations.status(ctx, id=started.id)
    assert operations.hold(ctx, id=started.id, reason="look").state == "held"
    assert operations.resume(ctx, id="scoring", reason="on").state == "canary"
    assert operations.rollback(ctx, id=started.id, reason="off").state == "rolled_back"
    assert [r.state for r in operations.listed(ctx)] == ["rolled_back", "promoted"]
    assert operations.status(ctx, id="bank-scoring-rollout-1").challenger == 1
    with pytest.raises(NotFound, match="bank-scoring-rollout-1"):
        operations.status(ctx, id="another")


def test_deployments_are_listed_and_looked_up_by_time(ctx: Context) -> None:
    with_champion(ctx)
    operations.start(ctx, service="scoring", version=2)
    operations.promote(ctx, id="scoring", reason="now")
    first, *_ = operations.deployment_history(ctx, service="scoring")
    assert (first.champion, first.reason) == (2, "now")
    live = operations.deployment_at(ctx, service="scoring", at="2026-01-01T00:30:00Z")
    assert live is not None and live.champion == 1
    with ctx.catalog.reading() as connection:
        table = route(connection, ctx.system, "scoring")
    assert table is not None and table.generation == first.generation


def test_a_version_that_nobody_approved_is_not_released(ctx: Context) -> None:
    register(ctx, 4)
    for champion in (None, 1):  # (the first champion needs an approval too)
        with pytest.raises(Conflict, match=r"nobody has approved version 4 of model `fraud`") as refused:
            operations.start(ctx, service="scoring", version=4)
        assert (refused.value.code, refused.value.status, refused.value.exit_code) == ("conflict", 409, 3)
        assert refused.value.hint.startswith("`headrace registry approve fraud 4 ")
        live = deployments.history(ctx, "scoring")
        assert [d.champion for d in live] == [champion] * len(live)
        if champion is None:
            operations.start(ctx, service="scoring", version=1)
    versions.approve(ctx, "fraud", 4, reason="it is good")
    assert operations.start(ctx, service="scoring", version=4).state == "warming"
