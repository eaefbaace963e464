"""The second example goes through the same steps: string keys, snapshots per customer, the absence of an order as label."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
START = datetime(2025, 1, 1, tzinfo=UTC)
NOW, LAST = 200, 246
"""Days: until when history is imported, and until when the following days are replayed."""

pytestmark = pytest.mark.slow


def module(folder: str, name: str) -> ModuleType:
    """A module of an example, imported alone: examples have modules of the same names."""
    sys.path.insert(0, str(EXAMPLES / folder))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES / folder))
        for other in [n for n, m in sys.modules.items() if str(EXAMPLES) in str(getattr(m, "__file__", ""))]:
            del sys.modules[other]


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@pytest.fixture(scope="module")
def orders() -> pl.DataFrame:
    found: pl.DataFrame = module("churn", "generator").generate(150, seed=1, start=START.date())
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, orders: pl.DataFrame) -> Iterator[Any]:
    """The running system after the first release, a replay, and the release of a second version."""
    folder = tmp_path_factory.mktemp("churn")
    door_module, client_module = module("fraud", "door"), module("fraud", "client")
    with door_module.Door(EXAMPLES / "churn" / "system.py", folder / "data") as door:
        yield Churn(door, client_module, orders, folder).told()


class Churn:
    """Tells the story once; the tests read what it left."""

    def __init__(self, door: Any, client: ModuleType, orders: pl.DataFrame, folder: Path) -> None:
        self.door, self.orders, self.folder = door, orders, folder
        self.clients = client.Clients(*door.address, "/services/leaving/predict")
        self.answers: list[Any] = []

    def told(self) -> Churn:
        self.clock(day(NOW))
        path = self.folder / "orders.parquet"
        self.orders.filter(pl.col("placed_at") < day(NOW)).write_parquet(path)
        self.ingested = self.door.command("ingest", "order", path)
        self.settle()
        self.first = self.train(40, 130, trials=10)
        self.tested = self.door.post(f"/runs/{self.first['id']}/evaluations", {"from": iso(130), "to": iso(170)})
        self.release(self.first["id"])
        second = self.train(60, 160)
        for number in range(NOW, LAST):
            self.replay(number)
            if number == NOW + 3:
                self.release(second["id"])
        self.clients.close()
        self.door.command("predictions", "export", "leaving", "--out", self.folder / "log.parquet")
        self.log = pl.read_parquet(self.folder / "log.parquet")
        return self

    def clock(self, moment: datetime) -> None:
        self.door.post("/clock", {"now": moment.isoformat()})

    def settle(self) -> None:
        assert self.door.get("/settled", timeout=60)["settled"]

    def train(self, start: int, end: int, trials: int = 0) -> Any:
        return self.door.post("/training", {"model": "churn", "from": iso(start), "to": iso(end), "trials": trials})

    def release(self, run: str) -> None:
        number = self.door.post("/registry/churn/versions", {"run": run})["version"]
        self.door.post(f"/registry/churn/versions/{number}/approve", {"reason": "a test"})
        self.door.post("/rollouts", {"service": "leaving", "version": number, "reason": "a test"})
        self.settle()

    def replay(self, number: int) -> None:
        """A day: its orders arrive, then every customer known by then is asked about."""
        self.clock(day(number + 1))
        mine = (pl.col("placed_at") >= day(number)) & (pl.col("placed_at") < day(number + 1))
        rows = self.orders.filter(mine).with_columns(pl.col("placed_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.door.send("order", rows.write_ndjson().encode().splitlines())
        self.settle()
        known = self.orders.filter(pl.col("placed_at") < day(number + 1))["customer"].unique().sort()
        self.answers += self.clients.ask([f'{{"customer":"{name}"}}'.encode() for name in known])


def iso(number: int) -> str:
    return day(number).isoformat()


def test_history_is_imported_whole(world: Churn) -> None:
    assert world.ingested["rows"] == len(world.orders.filter(pl.col("placed_at") < day(NOW)))
    (stream,) = world.door.get("/streams")
    assert stream["accepted"] == len(world.orders.filter(pl.col("placed_at") < day(LAST)))
    assert stream["quarantined"] == stream["redelivered"] == 0


def test_the_model_tells_who_leaves(world: Churn) -> None:
    metrics = world.tested["metrics"]
    assert metrics["test.auc_roc"] > 0.7
    trials = world.door.get("/runs", parent=world.first["id"])
    assert len(trials) == 10


def test_every_answer_is_a_score_and_equal_questions_are_sticky(world: Churn) -> None:
    assert {answer.status for answer in world.answers} == {200}
    assert all(0 <= answer.body["score"] <= 1 for answer in world.answers)
    assert all(answer.body["sticky"] for answer in world.answers)


def test_the_logged_features_are_those_of_the_orders(world: Churn) -> None:
    live = world.log.filter(pl.col("role") != "shadow")
    assert len(live) == len(world.answers)
    for row in live.sample(40, seed=0).iter_rows(named=True):
        mine = world.orders.filter((pl.col("customer") == row["entity_key"]) & (pl.col("placed_at") <= row["at"]))
        window = mine.filter(pl.col("placed_at") > row["at"] - timedelta(days=90))
        in_app = mine.filter((pl.col("placed_at") > row["at"] - timedelta(days=30)) & (pl.col("channel") == "app"))
        assert row["orders_count_90d"] == len(window)
        assert row["orders_spent_90d"] == pytest.approx(window["total"].sum())
        assert row["orders_channels_90d"] == window["channel"].n_unique()
        assert row["orders_items_90d"] == pytest.approx(window["items"].mean() or 0)
        assert row["app_count_30d"] == len(in_app)
        assert row["app_last_total_30d"] == (in_app["total"][-1] if len(in_app) else None)


def test_the_second_version_is_promoted_step_by_step(world: Churn) -> None:
    second = next(rollout for rollout in world.door.get("/rollouts") if rollout["challenger"] == 2)
    assert second["state"] == "promoted"
    states = [event["to"] for event in second["events"]]
    assert list(dict.fromkeys(states)) == ["warming", "shadow", "canary", "probation", "promoted"]
    assert {answer.body["version"] for answer in world.answers} >= {1, 2}
    assert world.answers[0].body["version"] == 1
    assert world.answers[-1].body["version"] != 1


def test_every_feature_can_be_recomputed_and_every_record_proved(world: Churn) -> None:
    found = world.door.command("parity", "leaving", bad=True)
    assert found["values_different"] == 0
    assert found["values_compared"] >= len(world.answers) * 18
    assert world.door.command("audit", "verify", bad=True)["verified"]


def test_a_prediction_can_be_explained(world: Churn) -> None:
    early = world.answers[0].body["prediction_id"]
    chain = world.door.command("why", early)
    assert chain["dataset_version"].startswith("churn@")
    assert chain["approved_by"] == "local"
    assert len(chain["features"]) == 18
    assert chain["label"] is not None
