"""Several processes apply one stream; killed and paused ones lose and double nothing."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
from running import Running
from test_run import until
from worker_world import Workers, append, apply_all, opened, outcome, returns, story, wait_applied

from headrace.kernel.clocks import MACHINE


def _storm(tmp_path: Path, kills: int, events: int, seed: int) -> None:
    """Workers are killed at random moments and started again while the streams flow."""
    chosen, values, reports = random.Random(seed), story(events, seed), returns(events, seed)
    ctx, alone = opened(tmp_path / "data"), opened(tmp_path / "alone")
    append(alone, values, 500)
    append(alone, reports, 500, stream="return")
    apply_all(alone)
    workers = Workers(tmp_path / "data", ["a", "b", "c"])
    for name in workers.names:
        workers.start(name)
    parts = [values[len(values) * n // kills : len(values) * (n + 1) // kills] for n in range(kills)]
    for number, part in enumerate(parts):
        append(ctx, part[: len(part) // 2], 500)
        append(ctx, reports[len(reports) * number // kills : len(reports) * (number + 1) // kills], 500, stream="return")
        name = workers.some(chosen)
        MACHINE.sleep(chosen.uniform(0.0, 0.3))
        append(ctx, part[len(part) // 2 :], 500)
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


@pytest.mark.slow
def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    _storm(tmp_path, 4, 1600, 1)


WIDE = """
from datetime import datetime

import headrace as hr

system = hr.System("wide")


@system.stream(id="n", key="customer", time="at", partitions=4)
class Sale:
    n: int
    customer: int
    at: datetime
"""


@pytest.mark.slow
def test_a_running_system_starts_its_killed_appliers_again(tmp_path: Path) -> None:
    (tmp_path / "wide.py").write_text(WIDE)

    def post(first: int) -> None:
        rows = ({"n": n, "customer": n % 50, "at": "2026-01-01T00:00:00Z"} for n in range(first, first + 500))
        body = "\n".join(map(json.dumps, rows)).encode()
        assert run.ask("POST", "/streams/sale/events", body, Content_Type="application/x-ndjson")[0] == 200

    def applied(count: int) -> bool:
        (status,) = run.ask("GET", "/api/v1/streams")[1]
        return bool(status["accepted"] == count == status["end"])

    def shared(times: int) -> list[str]:
        """The process ids of the other applier once it has had its half of the partitions so many times."""
        until(lambda: len(re.findall(r"assigned member=apply-1 partitions=\[\d, \d\]", run.log.read_text())) == times)
        return re.findall(r"apply process started.*pid=(\d+)", run.log.read_text())

    with Running(tmp_path / "data", "--appliers", "2", "--log-level", "info", file=tmp_path / "wide.py") as run:
        post(0)
        until(lambda: applied(500))
        (pid,) = shared(1)
        post(500)
        until(lambda: applied(1000))
        os.kill(int(pid), signal.SIGKILL)
        post(1000)
        until(lambda: applied(1500))
        assert len(shared(2)) == 2
    assert "stopped member=apply-1" in run.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    _storm(tmp_path, 100, 40_000, 2)
