"""`hr.connect`: the same frames from a running headrace and from its data folder, and the server's errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from running import SYSTEM, Running

import headrace as hr
from headrace.app.connection import Client, _to_pandas
from headrace.kernel.errors import Denied, HeadraceError, InvalidInput, NotFound, Unauthenticated, UsageError

MODEL = """
def silent(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=2, random_state=0).fit(rows, labels)
"""
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = "2024-03-01T00:00:00Z"
DAYS = 40


def orders() -> list[dict[str, Any]]:
    """c0 orders every day, c1 every third, c2 in the first ten days; one order breaks the contract."""
    found: list[dict[str, Any]] = []
    for day in range(DAYS):
        for customer, comes in (("c0", True), ("c1", day % 3 == 0), ("c2", day < 10)):
            if comes:
                at = START + timedelta(days=day, minutes=len(found))
                found.append({"order_id": len(found), "customer": customer, "at": at.isoformat(), "total": 1.5 + day})
    return [*found, {"order_id": 999, "customer": "c0", "at": "soon", "total": 1}]


def write_file(folder: Path) -> Path:
    file = folder / "shop.py"
    declared = SYSTEM.replace("{name}", "shop")
    head, _, tail = declared.partition("def silent(rows, labels):")
    file.write_text(head + MODEL.lstrip() + tail.partition('trains nothing")')[2])
    return file


@contextmanager
def running_shop(folder: Path) -> Iterator[Running]:
    """All orders applied, at NOW."""
    with Running(folder / "data", "--clock", "virtual", file=write_file(folder)) as run:
        run.ask("POST", "/api/v1/clock", json.dumps({"now": NOW}).encode())
        (folder / "orders.ndjson").write_text("\n".join(json.dumps(order) for order in orders()))
        code, answer = run.command("ingest", "order", folder / "orders.ndjson")
        assert code == 0, answer
        assert run.command("settled", "--timeout", "30")[0] == 0
        yield run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_shop(tmp_path_factory.mktemp("connect")) as run:
        yield run


def predict(shop: Running) -> None:
    """Train, put the first version live, and ask for three predictions."""
    code, trained = shop.command("train", "silent", "--from", "2024-01-02", "--to", "2024-02-01")
    assert code == 0, trained
    for command in (("register", "silent", "--run", trained["id"]), ("approve", "silent", 1, "--reason", "the first")):
        code, answer = shop.command("registry", *command)
        assert code == 0, answer
    assert shop.command("rollout", "start", "score", 1)[0] == 0
    deadline = time.monotonic() + 30
    for number in range(3):
        body = json.dumps({"order_id": 500 + number, "customer": f"c{number}", "at": NOW, "total": 2.0}).encode()
        while shop.ask("POST", "/services/score/predict", body)[0] == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def clients(run: Running, monkeypatch: pytest.MonkeyPatch) -> list[Client[pl.DataFrame]]:
    """Remote, the data folder, and the system file with the data folder of the settings."""
    monkeypatch.setenv("HEADRACE_DATA", str(run.data))
    return [hr.connect(run.ready["http"]), hr.connect(run.data), hr.connect(run.file), hr.connect()]


def same(frames: list[pl.DataFrame]) -> pl.DataFrame:
    for other in frames[1:]:
        assert_frame_equal(frames[0], other)
    return frames[0]


def test_a_training_set(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: dict[str, Any] = {"start": START, "end": "2024-02-01", "known_at": datetime(2024, 2, 5, tzinfo=UTC)}
    found = same([client.training_set("silent", **ends) for client in clients(shop, monkeypatch)])
    assert found.columns == ["customer", "at", "_own", "total", "recent_count_1d", "label"]
    assert found["at"].max() == datetime(2024, 1, 28, 0, 47, tzinfo=UTC), "later labels were not known"
    assert found.filter(pl.col("label") == 1)["customer"].to_list() == ["c2"]


def test_features_as_known_at_a_time(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    all_clients = clients(shop, monkeypatch)
    every = same([client.features_at("recent", "2024-01-02T12:00:00Z") for client in all_clients])
    assert every["customer"].to_list() == ["c0", "c1", "c2"]
    assert every["recent_count_1d"].to_list() == [1, 0, 1]
    path = shop.data.parent / "recent.parquet"
    assert shop.command("features", "export", "recent", "--out", path, "--known-at", "2024-01-02T12:00:00Z")[0] == 0
    assert_frame_equal(pl.read_parquet(path), every)
    rows: dict[str, list[Any]] = {"customer": ["c2", "nobody", "c0"], "total": [1.0, 2.0, 3.0], "mine": [1, 2, 3]}
    times = ["2024-01-05T12:00:00Z", "2024-01-05T12:00:00Z", "2024-01-31T00:30:00+02:00"]
    asked = same([client.features_at("silent", rows={**rows, "at": times}) for client in all_clients])
    assert asked.columns == ["customer", "total", "mine", "at", "recent_count_1d"]
    assert asked["recent_count_1d"].to_list() == [1, 0, 1]
    assert asked["at"][2] == datetime(2024, 1, 30, 22, 30, tzinfo=UTC)
    once = same([client.features_at("silent", times[0], rows=pl.DataFrame(rows)) for client in all_clients])
    assert once["recent_count_1d"].to_list() == [1, 0, 1]
    assert (
        same([client.features_at("recent", rows=[{"customer": "c0"}]) for client in all_clients])["at"].dt.date()[0].month == 3
    )


def test_refused_events(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    found = same([client.quarantine("order") for client in clients(shop, monkeypatch)])
    assert found.select("id", "field").rows() == [("999", "at")]
    assert json.loads(found["raw"][0])["at"] == "soon"
    nothing = same([client.quarantine("order", reason="no such") for client in clients(shop, monkeypatch)])
    assert nothing.schema == found.schema and nothing.is_empty()


def test_a_prediction_log_that_is_empty(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    found = same([client.predictions("score") for client in clients(shop, monkeypatch)])
    assert found.columns[:2] == ["prediction_id", "at"] and found.columns[-2:] == ["total", "recent_count_1d"]
    assert found.is_empty()


def test_pandas(shop: Running) -> None:
    ends: dict[str, Any] = {"start": START, "end": "2024-02-01"}
    found = hr.connect(shop.data, frames="pandas").training_set("silent", **ends)
    expected = hr.connect(shop.data).training_set("silent", **ends)
    assert list(found.columns) == expected.columns
    assert str(found["at"].dt.tz) == "UTC"
    for name in expected.columns:
        assert found[name].tolist() == expected[name].to_list(), name
    assert hr.connect(shop.data, frames="pandas").quarantine("order", reason="no such").empty


def test_pandas_has_lists_and_structs_as_objects() -> None:
    rows = pl.DataFrame({"s": [{"a": 1}, None], "l": [[1, 2], []]})
    assert _to_pandas(rows)["s"].tolist() == rows["s"].to_list()
    assert _to_pandas(rows)["l"].tolist() == [[1, 2], []]


def test_times_are_dates_too_and_in_order(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for client in clients(shop, monkeypatch)[:2]:
        days = client.training_set("silent", start=START.date(), end=date(2024, 2, 1))
        assert_frame_equal(days, client.training_set("silent", start=START, end="2024-02-01"))
        with pytest.raises(InvalidInput, match="no time is from"):
            client.training_set("silent", start=NOW, end=START)
        with pytest.raises(UsageError, match="is no time"):
            client.training_set("silent", start=1, end=NOW)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="line break"):
        hr.connect(shop.ready["http"], "hk_1\n2").quarantine("order")


def test_errors_are_those_of_the_server(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[type[HeadraceError], str, Any]] = [
        (NotFound, "`silent`", lambda c: c.training_set("nothing", start=START, end=NOW)),
        (InvalidInput, "yesterday", lambda c: c.training_set("silent", start="yesterday", end=NOW)),
        (NotFound, "`recent`", lambda c: c.features_at("nothing")),
        (UsageError, "no view", lambda c: c.features_at("silent")),
        (InvalidInput, "`total`", lambda c: c.features_at("silent", rows={"customer": ["c0"]})),
        (InvalidInput, "`total` is `float`", lambda c: c.features_at("silent", rows={"customer": ["c0"], "total": ["much"]})),
        (InvalidInput, "`recent_count_1d`", lambda c: c.features_at("recent", rows={"recent_count_1d": [1]})),
        (InvalidInput, "times of their own", lambda c: c.features_at("recent", NOW, rows={"customer": ["c"], "at": [NOW]})),
        (InvalidInput, "`at` is null", lambda c: c.features_at("recent", rows={"customer": ["c"], "at": [None]})),
        (NotFound, "`order`", lambda c: c.quarantine("nothing")),
        (NotFound, "`score`", lambda c: c.predictions("nothing")),
    ]  # fmt: skip
    for kind, says, ask in wrong:
        told = []
        for client in clients(shop, monkeypatch)[:2]:
            with pytest.raises(kind, match=says) as raised:
                ask(client)
            told.append(raised.value.body())
        assert told[0] == told[1]
        assert told[0]["error"]["hint"]
    with pytest.raises(UsageError, match="polars, pandas"):
        hr.connect(shop.data, frames="arrow")  # type: ignore[call-overload]
    with pytest.raises(NotFound, match="does not exist"):
        hr.connect(shop.data.parent / "elsewhere").quarantine("order")
    monkeypatch.setenv("HEADRACE_DATA", str(shop.data.parent / "elsewhere"))
    with pytest.raises(NotFound, match="does not exist"):
        hr.connect(shop.file).quarantine("order")
    assert not (shop.data.parent / "elsewhere").exists(), "asking makes no data folder"
    assert shop.ask("GET", "/api/v1/services/score/predictions?form=csv")[0] == 400
    assert shop.ask("POST", "/api/v1/features/recent/at", b"{}")[1]["error"]["message"].startswith("the body is no Parquet")


def test_the_key_decides_what_may_be_read(shop: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = shop.command("keys", "create", "--name", "first", "--role", "admin")[1]["key"]
    service = shop.command("keys", "create", "--name", "asks", "--role", "service")[1]["key"]
    time.sleep(0.6)  # (a process keeps what it knows of keys for half a second)
    url = shop.ready["http"]
    with pytest.raises(Unauthenticated):
        hr.connect(url).quarantine("order")
    with pytest.raises(Denied):
        hr.connect(url, service).quarantine("order")
    monkeypatch.setenv("HEADRACE_URL", url)
    monkeypatch.setenv("HEADRACE_API_KEY", admin)
    assert hr.connect().quarantine("order").height == 1
    monkeypatch.setenv("OTHER_KEY", service)
    with pytest.raises(Denied):
        hr.connect(key="env:OTHER_KEY").predictions("score")


@pytest.mark.slow
def test_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_shop(tmp_path) as shop:
        predict(shop)
        found = same([client.predictions("score") for client in clients(shop, monkeypatch)])
    assert found["version"].to_list() == [1, 1, 1]
    assert found["recent_count_1d"].to_list() == [1.0, 1.0, 1.0]
    assert found["score"].is_between(0, 1).all()
