from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from release_world import START, opened, ticked, with_champion
from sqlalchemy import Connection, select

from headrace.engines.catalog.port import Catalog
from headrace.engines.context import Context
from headrace.kernel.times import DAY, HOUR
from headrace.ledger.tables import OUTBOX
from headrace.release import rollouts, store
from headrace.release.stepping import tick
from headrace.release.tables import rollout_entities
from headrace.release.types import Policy, canary, shadow


class Killed(BaseException):
    """The process is gone."""


class DyingCatalog:
    """A catalog whose process dies in the n-th write transaction, before or after its commit."""

    def __init__(self, inner: Catalog, n: int, *, before_commit: bool) -> None:
        self._inner, self._left, self._before = inner, n, before_commit

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self._left -= 1
        with self._inner.transaction() as connection:
            yield connection
            if self._left == 0 and self._before:
                raise Killed
        if self._left == 0:
            raise Killed

    def reading(self) -> AbstractContextManager[Connection]:
        return self._inner.reading()

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        return self._inner.lease(name, holder, seconds)

    def changes(self) -> int:
        return self._inner.changes()

    def close(self) -> None:
        self._inner.close()


def everything(ctx: Context) -> tuple[object, ...]:
    """All that the room has stored about the rollout, without machine times and random ids."""
    with ctx.catalog.reading() as connection:
        state = store.newest(connection, ctx.system, "scoring")
        assert state is not None
        entities = connection.execute(select(rollout_entities.c.entity, rollout_entities.c.bits)).all()
        kinds = connection.execute(select(OUTBOX.c.kind).order_by(OUTBOX.c.sequence)).scalars().all()
        return store.shape(connection, state), state.evidence, state.next_offset, sorted(map(tuple, entities)), list(kinds)


def prepared(folder: Path) -> int:
    """Five thousand answers of a shadow and a canary step wait to be read; returns the event time."""
    ctx = opened(folder)
    serving = with_champion(ctx)
    rollouts.start(ctx, "scoring", 2, policy=Policy(tuple(shadow("1h") >> canary(20, 50))))
    serving.acknowledge()
    ticked(ctx)
    serving.requests(600)
    ticked(ctx)
    serving.requests(5000, over=DAY)
    ctx.events.close()
    ctx.catalog.close()
    return ctx.clock.now()


def again(source: Path, folder: Path, now: int) -> Context:
    shutil.copytree(source, folder)
    ctx = opened(folder)
    ctx.clock.set(now)
    return ctx


@pytest.mark.parametrize("before_commit", [True, False])
def test_killed_in_any_transaction_and_started_again_it_decides_the_same(tmp_path: Path, before_commit: bool) -> None:
    now = prepared(tmp_path / "source")
    whole = again(tmp_path / "source", tmp_path / "whole", now)
    assert ticked(whole).weight == 0.5
    expected = everything(whole)
    kills = 0
    for n in range(1, 20):
        ctx = again(tmp_path / "source", tmp_path / f"killed-{n}", now)
        try:
            tick(replace(ctx, catalog=DyingCatalog(ctx.catalog, n, before_commit=before_commit)), "scoring")
        except Killed:
            kills += 1
        else:
            break
        assert ticked(ctx).weight == 0.5
        assert everything(ctx) == expected
    assert kills == 3, "two parts of the log and the next step"
    assert now > START + HOUR
