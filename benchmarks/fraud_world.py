"""The fraud system as a running installation: its history ingested, a model trained, registered and released."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples/fraud"
sys.path.insert(0, str(EXAMPLE))

import door as example  # noqa: E402
import golden  # noqa: E402
from generator import generate  # noqa: E402
from payments import EVENT, reports  # noqa: E402

SYSTEM = EXAMPLE / "system.py"
DAYS = 60
SMALL = 20_000
TRAIN_FROM_DAY, TRAIN_TO_DAY = 38, 50
FIRST_ID = 1 << 40
"""Ids of asked payments: none of the history."""


class Door(example.Door):
    """The example's own client of a running system."""

    def predict(self, service: str, row: dict[str, Any]) -> None:
        """Ask once."""
        connection = http.client.HTTPConnection(*self.address)
        connection.request("POST", f"/services/{service}/predict", json.dumps(row), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise example.Refused(answer.read().decode())
        connection.close()

    @property
    def serve_pid(self) -> int:
        return int((self.data / "run/fraud/serve.pid").read_text())

    @property
    def work_pid(self) -> int:
        return int(json.loads((self.data / "run/fraud/ready.json").read_text())["pid"])


def history(payments: int) -> pl.DataFrame:
    """Generated payments over DAYS, about two a customer and day."""
    return generate(payments, seed=0, days=DAYS)


def end_of(payments: pl.DataFrame) -> datetime:
    """The midnight after the last payment."""
    last: datetime = payments["at"].max()  # type: ignore[assignment]
    return last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def ingest(door: Door, payments: pl.DataFrame, scratch: Path) -> None:
    """All payments, and the reports known by the end; the virtual clock stands there then."""
    end = end_of(payments)
    door.post("/clock", {"now": end.isoformat()})
    for stream, frame in (
        ("transaction", payments.select(EVENT)),
        ("fraud_report", reports(payments).filter(pl.col("at") < end)),
    ):
        path = scratch / f"{stream}.parquet"
        frame.write_parquet(path)
        door.command("ingest", stream, path)
        path.unlink()
    door.get("/settled", timeout=300)


def train(door: Door, payments: pl.DataFrame, versions: int = 1) -> list[int]:
    """A boosting model on twelve mature days, registered and approved so many times: the versions."""
    start = end_of(payments) - timedelta(days=DAYS)
    window = [(start + timedelta(days=day)).isoformat() for day in (TRAIN_FROM_DAY, TRAIN_TO_DAY)]
    numbers = []
    for seed in range(versions):
        run = door.command("train", "boosting", "--from", window[0], "--to", window[1], "--seed", str(seed))
        numbers.append(door.command("registry", "register", "boosting", "--run", run["id"])["version"])
        door.post(f"/registry/boosting/versions/{numbers[-1]}/approve", {"reason": "for the benchmark"})
    return numbers


def release(door: Door, number: int) -> None:
    """Start the release of the version and wait until the serve process has it in memory."""
    door.post("/rollouts", {"service": "scoring", "version": number, "reason": "for the benchmark"})
    _wait(lambda: any(number in service["warm"] for service in door.get("/services")), f"version {number} is not loaded")


def to_canary(door: Door, payments: pl.DataFrame) -> str:
    """Bring the newest release from shadow to its canary: requests for its evidence, then a day by the clock."""
    _wait(lambda: _newest(door)["state"] == "shadow", "the release does not enter its shadow stage")
    for row in asked(payments, 1000, 1 << 30):
        door.predict("scoring", row)
    door.post("/clock", {"now": (end_of(payments) + timedelta(days=1, minutes=1)).isoformat()})
    _wait(lambda: _newest(door)["state"] == "canary", "the release does not enter its canary stage")
    return canary(door)


def canary(door: Door) -> str:
    """The newest release, which must still be in its canary."""
    newest = _newest(door)
    if newest["state"] != "canary":
        sys.exit(f"the release left its canary: {newest['events'][-1]}")
    return f"canary at {newest['weight']:.0%}"


def _newest(door: Door) -> dict[str, Any]:
    newest: dict[str, Any] = max(door.get("/rollouts"), key=lambda rollout: int(rollout["challenger"]))
    return newest


def check_answers(door: Door, answers: list[dict[str, Any]], scratch: Path) -> dict[int, int]:
    """How many of the answers each version gave. Each must be to the bit what the version's artifact scores for the
    features that were logged; one that is not ends the benchmark."""
    out = scratch / "predictions.parquet"
    door.command("predictions", "export", "scoring", "--out", out)
    wanted = [answer["prediction_id"] for answer in answers]
    logged = pl.scan_parquet(out).filter(pl.col("prediction_id").is_in(wanted), pl.col("role") != "shadow").collect()
    scores = golden.golden_scores(door, logged)
    for answer in answers:
        expected = scores.get((answer["prediction_id"], answer["version"]))
        if answer["score"] != expected:
            sys.exit(f"the answer {answer} is not the golden one: {expected}")
    return dict(Counter(answer["version"] for answer in answers))


def _wait(condition: Callable[[], bool], failure: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.05)


def asked(payments: pl.DataFrame, number: int, first: int = 0) -> list[dict[str, Any]]:
    """`number` payments that are asked about in the last hour of the history, customers and terminals as in it, with new
    ids from `first` on. Times are RFC 3339."""
    random = np.random.default_rng([1, first])
    rows = payments[random.integers(0, len(payments), number)]
    end = end_of(payments)
    times = [end - timedelta(microseconds=int(back)) for back in random.integers(0, 3_600_000_000, number)]
    return [
        {"tx_id": FIRST_ID + first + i, "at": at.isoformat().replace("+00:00", "Z"), "customer_id": customer,
         "terminal_id": terminal, "amount": amount}
        for i, (at, customer, terminal, amount) in enumerate(
            zip(times, rows["customer_id"].to_list(), rows["terminal_id"].to_list(), rows["amount"].to_list(), strict=True)
        )
    ]  # fmt: skip
