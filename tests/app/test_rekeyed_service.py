"""A service whose features are by something else than the key of its stream of several partitions, applied by processes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from running import Running
from test_run import until

pytestmark = pytest.mark.slow

SYSTEM = '''"""Card payments of shops."""

from datetime import datetime

import headrace as hr

system = hr.System("cards")


@system.stream(id="n", key="customer", time="at", created="at", partitions=4, lateness="400d")
class Payment:
    """A payment."""

    n: int
    customer: int
    shop: str | None
    amount: float
    at: datetime


@system.stream(id="id", key="id", time="at", partitions=3)
class Report:
    """A payment was a fraud."""

    id: int
    n: int
    at: datetime


reported = system.join(Payment, Report, on="n")
customer = system.windows(Payment, by="customer", over=["1d"], own_event=True, n=hr.count(), total=hr.sum("amount"))
shop = system.windows(
    reported, by="shop", over=["1d", "7d"], own_event=True, n=hr.count(), total=hr.sum("amount"), risk=hr.share(Report)
)
everyone = system.windows(Payment, by=(), over=["1d"], name="everyone", n=hr.count(), mean=hr.mean("amount"))
last = system.attributes(Payment, by="shop", columns=["amount"], name="last")


@system.model(features=["amount", customer, shop, everyone, last], label=hr.label(Report, on="n", within="1d"), spine=Payment)
def fraud(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=2, random_state=0).fit(rows, labels)


system.service(fraud, request=Payment, name="score")
'''
SHOPS = ("north", "east", "south", None)


def payment(draw: random.Random, number: int) -> dict[str, Any]:
    day, minute = divmod(number * 7 - draw.choice((0, 0, 0, 600)), 1440)
    at = f"2024-01-{10 + day:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z"
    return {
        "n": number,
        "customer": draw.randrange(9),
        "shop": draw.choice(SHOPS),
        "amount": draw.randrange(1, 9999) / 7,
        "at": at,
    }


def post(run: Running, stream: str, rows: list[dict[str, Any]]) -> None:
    body = "\n".join(map(json.dumps, rows)).encode()
    answer = run.ask("POST", f"/streams/{stream}/events", body, Content_Type="application/x-ndjson")
    assert answer[0] == 200, answer


def champion(run: Running) -> None:
    """Train on what is there, and put it live."""
    code, trained = run.command("train", "fraud", "--from", "2024-01-10", "--to", "2024-01-11")
    assert code == 0, trained
    for command in (("register", "fraud", "--run", trained["id"]), ("approve", "fraud", 1, "--reason", "the first")):
        code, answer = run.command("registry", *command)
        assert code == 0, answer
    assert run.command("rollout", "start", "score", 1)[0] == 0


def test_values_read_while_processes_apply_and_are_killed_are_those_of_the_log(tmp_path: Path) -> None:
    draw = random.Random(1)
    (tmp_path / "cards.py").write_text(SYSTEM)
    payments = [payment(draw, number) for number in range(800)]
    reports = [{"id": n, "n": draw.randrange(800), "at": payments[n]["at"]} for n in range(0, 800, 4)]
    with Running(tmp_path / "data", "--appliers", "2", "--log-level", "info", file=tmp_path / "cards.py") as run:
        post(run, "payment", payments[:400])
        post(run, "report", reports[:100])
        champion(run)
        until(lambda: run.ask("POST", "/services/score/predict", json.dumps(payments[0]).encode())[0] == 200)
        for first in range(400, 800, 40):
            post(run, "payment", payments[first : first + 40])
            post(run, "report", reports[first // 4 : first // 4 + 10])
            for asked in draw.sample(payments[: first + 80], 25):
                status, answer, _ = run.ask("POST", "/services/score/predict", json.dumps(asked).encode())
                assert status == 200, answer
            if first in (480, 640):
                os.kill(int(re.findall(r"apply process started.*pid=(\d+)", run.log.read_text())[-1]), signal.SIGKILL)
        code, parity = run.command("parity", "score")
        assert (code, parity["values_different"]) == (0, 0), parity
        assert parity["values_compared"] > 200 * 11
        path = tmp_path / "log.parquet"
        assert run.command("predictions", "export", "score", "--out", path)[0] == 0
        log = pl.read_parquet(path)
        positions = [json.loads(text) for text in log["read_position"]]
        assert set(positions[0]["shop"]) == {*(f"payment@{n}" for n in range(4)), *(f"report@{n}" for n in range(3))}
        assert len({json.dumps(one["shop"]) for one in positions}) > 6
        sums = log.select(pl.col("shop_risk_7d", "everyone_mean_1d", "last_amount").sum()).row(0)
        assert min(sums) > 0, sums
        code, told = run.command("why", log["prediction_id"][-1])
        assert code == 0 and {one["name"] for one in told["features"]} >= {"shop_risk_7d", "everyone_n_1d"}
        assert run.command("doctor")[0] == 0
