"""Several processes apply one stream; killed and paused ones lose and double nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from worker_world import Workers, append, apply_all, opened, outcome, story, wait_applied

from headrace.kernel.clocks import MACHINE


def _storm(tmp_path: Path, kills: int, events: int, seed: int) -> None:
    """Workers are killed at random moments and started again while the stream flows."""
    chosen, values = random.Random(seed), story(events, seed)
    ctx, alone = opened(tmp_path / "data"), opened(tmp_path / "alone")
    append(alone, values, 500)
    apply_all(alone)
    workers = Workers(tmp_path / "data", ["a", "b", "c"])
    for name in workers.names:
        workers.start(name)
    parts = [values[len(values) * n // kills : len(values) * (n + 1) // kills] for n in range(kills)]
    for part in parts:
        append(ctx, part, 500)
        name = workers.some(chosen)
        MACHINE.sleep(chosen.uniform(0.0, 0.3))
        if len(workers.kills) % 10 == 5:
            workers.pause(name, 1.5)
            MACHINE.sleep(0.2)  # it goes on where it stood, and is fenced
            name = workers.some(chosen)
        workers.kill(name)
        workers.start(name)
    wait_applied(ctx)
    assert workers.stop() == [0, 0, 0]
    assert len(workers.kills) == kills
    apply_all(ctx)  # as the next start: what a killed worker held back from the lake is in the log
    assert outcome(ctx) == outcome(alone)
    print(f"{kills} kills, {len(values)} records: lake, counts, quarantine and online values as in one run", flush=True)


def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    _storm(tmp_path, 10, 4000, 1)


@pytest.mark.slow
def test_a_hundred_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    _storm(tmp_path, 100, 40_000, 2)
