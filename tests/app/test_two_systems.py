"""Two whole systems in one data folder: neither leaves a trace in the other's part of any store."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import Running
from sqlalchemy import MetaData, create_engine, select

from headrace.engines.events.segments import SegmentLog
from headrace.engines.lake.delta import DeltaLake
from headrace.engines.online.lmdb_store import LmdbStore
from headrace.ledger.tiles import decode_bundle

pytestmark = pytest.mark.slow

SYSTEM = '''"""A shop."""

from datetime import datetime
from typing import Annotated

import headrace as hr

system = hr.System("{name}")


@system.stream(id="order_id", key="customer", time="at")
class Order:
    """An order."""

    order_id: int
    customer: str
    at: datetime
    total: Annotated[float, hr.Range(min=0)]


recent = system.windows(Order, by="customer", over=["1d", "7d"], name="recent", own_event=True, sum=hr.sum("total"))


@system.model(features=["total", recent], label=hr.no_event(Order, by="customer", within="2d"), spine=Order)
def silent(rows, labels):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(rows, labels)


score = system.service(silent, request=Order, name="score", release=hr.shadow("1d"))
system.watch(score, retrain_when=hr.psi > 0.2)
'''
NAMES = ("tulip", "maple")
FEATURES = 3
TOTALS = {"tulip": 173.25, "maple": 211.75}
"""A total that only one order has, in the middle of the last week."""
OF_THE_INSTALLATION = {"catalog_format": None, "leases": "name", "ledger": None, "sqlite_sequence": None}
"""Tables without rows of a system, and the column that begins with a system's name where there is one."""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@dataclass
class Shop:
    """One of the systems; every text that it gets to store names it."""

    name: str
    run: Running
    key: str = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        status, answer, _ = self.run.ask(method, path, None if body is None else json.dumps(body).encode(), key=self.key)
        assert status == 200, answer
        return answer

    def order(self, number: int, *, customer: int | None = None, **changes: Any) -> dict[str, Any]:
        """Order `number`, six hours after the one before; customer 0 stays away each second week."""
        day, hour = 1 + number // 4, 6 * (number % 4)
        who = number % 3 if customer is None else customer
        who = 1 if who == 0 and day // 7 % 2 else who
        return {"order_id": number, "customer": f"{self.name}-c{who}", "at": f"2024-01-{day:02}T{hour:02}:00:00Z",
                "total": TOTALS[self.name] if number == 112 else 1.0 + number % 7, **changes}  # fmt: skip

    def predict(self, **changes: Any) -> str:
        answer = self.ask("POST", "/services/score/predict", self.order(120, customer=1, **changes))
        return str(answer["prediction_id"])

    def lives(self) -> None:
        """Something for every store: events, features, quarantine, datasets, runs, versions, rollouts, predictions, keys."""
        self.ask("POST", "/api/v1/clock", {"now": "2024-01-31T00:00:00Z"})
        orders = [self.order(number) for number in range(120)]
        assert orders[112]["customer"] == f"{self.name}-c1"
        self.ask("POST", "/streams/order/events", [*orders, self.order(120, total=f"{self.name}, a lot")])
        assert self.ask("GET", "/api/v1/settled?timeout=60")["settled"]
        window = {"model": "silent", "from": "2024-01-01T00:00:00Z", "to": "2024-01-20T00:00:00Z"}
        run = self.ask("POST", "/api/v1/training", window)["id"]
        self.ask("POST", "/api/v1/registry/silent/versions", {"run": run})
        self.ask("POST", "/api/v1/registry/silent/versions/1/approve", {"reason": f"{self.name} likes it"})
        self.ask("POST", "/api/v1/rollouts", {"service": "score", "version": 1, "reason": self.name})
        until(lambda: 1 in self.ask("GET", "/api/v1/services")[0]["warm"])
        for order in range(200, 206):
            self.predict(order_id=order)
        assert self.ask("GET", "/api/v1/settled?timeout=60")["settled"]
        self.run.command("audit", "checkpoint", "--system", self.name)
        self.key = self.run.command("keys", "create", "--name", self.name, "--role", "admin", "--system", self.name)[1]["key"]


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Shop]]:
    folder = tmp_path_factory.mktemp("both")
    files = [folder / f"{name}.py" for name in NAMES]
    for name, file in zip(NAMES, files, strict=True):
        file.write_text(SYSTEM.replace("{name}", name))
    data = folder / "data"
    with (
        Running(data, "--clock", "virtual", file=files[0]) as tulip,
        Running(data, "--clock", "virtual", file=files[1]) as maple,
    ):
        found = {"tulip": Shop("tulip", tulip), "maple": Shop("maple", maple)}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Shop.lives, found.values()))
        yield found


def other(name: str) -> str:
    return NAMES[1 - NAMES.index(name)]


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_of_one_system_is_about_itself(shops: dict[str, Shop], name: str) -> None:
    shop = shops[name]
    paths = shop.ask("GET", "/openapi.json")["paths"]
    told = 0
    for path in ["/", "/metrics", *(path for path, methods in paths.items() if "get" in methods and "{" not in path)]:
        status, answer, _ = shop.run.ask("GET", path, key=shop.key)
        text = json.dumps(answer)
        assert other(name) not in text, path
        told += status == 200 and name in text
    assert told >= 5
    assert shop.run.ask("GET", "/api/v1/status", key=shops[other(name)].key)[0] == 401


def test_one_corrupted_online_value_is_the_one_that_parity_reports(shops: dict[str, Shop]) -> None:
    shop = shops["tulip"]
    corrupt(shop.run.data / "online" / "tulip", TOTALS["tulip"], TOTALS["tulip"] + 1.0)
    mine = shop.predict(order_id=400)
    shop.ask("POST", "/services/score/predict", shop.order(120, customer=2, order_id=401))
    code, found = shop.run.command("parity", "score", "--system", "tulip")
    assert code == 1
    different = found["differences"]
    assert [(one["prediction_id"], one["feature"]) for one in different] == [(mine, "recent_sum_7d")]
    assert found["values_different"] == 1
    assert different[0]["logged"] - different[0]["recomputed"] == pytest.approx(1.0)
    code, found = shop.run.command("parity", "score", "--system", "maple")
    assert (code, found["values_different"]) == (0, 0)
    assert found["values_compared"] >= 6 * FEATURES


def corrupt(folder: Path, value: float, wrong: float) -> None:
    """Change the one float64 in the online store that is `value`."""
    store = LmdbStore(folder)
    found = [(key, blob) for key, blob in store.scan(b"") if struct.pack("<d", value) in blob]
    assert len(found) == 1, "exactly one state holds it"
    key, blob = found[0]
    assert blob.count(struct.pack("<d", value)) == 1
    store.write({key: blob.replace(struct.pack("<d", value), struct.pack("<d", wrong))})
    store.close()


@pytest.fixture(scope="module")
def data(shops: dict[str, Shop]) -> Path:
    """The data folder of both after they ended: nothing is held back any more. The last to use `shops`."""
    for shop in shops.values():
        assert shop.run.stop() == 0
    return shops["tulip"].run.data


def test_every_row_of_the_catalog_is_of_one_system(data: Path) -> None:
    engine, tables = create_engine(f"sqlite:///{data / 'catalog.sqlite'}"), MetaData()
    tables.reflect(engine)
    full = {}
    with engine.connect() as connection:
        for table in tables.tables.values():
            rows = connection.execute(select(table)).mappings().all()
            if table.name in OF_THE_INSTALLATION:
                column = OF_THE_INSTALLATION[table.name]
                owners = [row[column].split("/")[0] for row in rows] if column else []
                assert set(owners) <= {*NAMES, "ledger"}, table.name
                continue
            for row in rows:
                assert row["system"] in NAMES, table.name
                assert other(row["system"]) not in str(dict(row)), table.name
            full[table.name] = {row["system"] for row in rows}
    engine.dispose()
    both = {name for name, systems in full.items() if systems == set(NAMES)}
    assert both >= {
        "api_keys", "dataset_versions", "deployments", "lineage", "loop_state", "model_approvals", "model_versions",
        "outbox", "prediction_batches", "rollout_events", "rollouts", "route_acks", "routes", "run_artifacts", "run_metrics",
        "runs", "stream_positions", "systems",
    }  # fmt: skip


def test_every_topic_is_of_one_system(data: Path) -> None:
    log = SegmentLog(data / "events")
    for name in NAMES:
        topics = [topic for topic in log.topics() if topic.split("/")[0] == name]
        assert {topic.split("/")[1] for topic in topics} >= {"streams", "quarantine", "predictions", "counters"}
        for topic in topics:
            values = log.read(topic, 0, 0).values
            assert values, topic
            assert not any(other(name).encode() in value for value in values), topic
        records = [topic for topic in topics if topic.split("/")[1] in ("streams", "quarantine", "predictions")]
        assert all(any(name.encode() in value for value in log.read(topic, 0, 0).values) for topic in records)
    assert {topic.split("/")[0] for topic in log.topics()} == set(NAMES)
    log.close()


def test_every_online_key_is_of_one_system(data: Path) -> None:
    for name in NAMES:
        store = LmdbStore(data / "online" / name)
        pairs = list(store.scan(b""))
        store.close()
        assert len(pairs) > 100
        assert all(key.startswith(f"{name}/".encode()) for key, _ in pairs)
        assert not any(other(name).encode() in key + value for key, value in pairs)
        assert any(f"{name}-c1".encode() in key for key, _ in pairs)


def test_every_table_of_the_lake_and_every_blob_is_of_one_system(data: Path) -> None:
    for name in NAMES:
        lake = DeltaLake(data / "lake" / name)
        tables = {str(log.parent.relative_to(data / "lake" / name)) for log in (data / "lake" / name).rglob("_delta_log")}
        assert tables == {"streams/order", "datasets/silent"}
        for table in tables:
            rows = lake.read(table).write_ndjson()
            assert name in rows and other(name) not in rows, table
    assert {path.name for path in (data / "clock").iterdir()} == set(NAMES)
    for folder in ("lake", "blobs", "run", "online", "events"):
        assert {path.name for path in (data / folder).iterdir() if path.is_dir()} == set(NAMES), folder
        for name in NAMES:
            files = [path for path in (data / folder / name).rglob("*") if path.is_file()]
            assert not any(other(name).encode() in path.read_bytes() for path in files), folder
    blobs = [{path.name for path in (data / "blobs" / name).rglob("*") if path.is_file()} for name in NAMES]
    assert all(blobs)


def test_every_leaf_of_the_ledger_is_of_one_system(data: Path) -> None:
    seen = set()
    bundles = sorted((data / "audit" / "tile" / "entries").rglob("[0-9]*"))
    for bundle in (path for path in bundles if path.is_file()):
        for entry in decode_bundle(bundle.read_bytes()):
            name = json.loads(entry)["system"]
            seen.add(name)
            assert other(name).encode() not in entry
            assert json.loads(entry)["id"].startswith(f"{name}-op-")
    assert seen == set(NAMES)
