"""A shop whose file changes while it runs, asked without a pause; what its features must be, by a plain loop."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper
from running import Running

from headrace.kernel.clocks import MACHINE

BEGIN = """
from datetime import datetime

import headrace as hr

system = hr.System("shop")


@system.stream(id="n", key="card", time="at", created="at", partitions={partitions})
class Sale:
    n: int
    card: int
    at: datetime
    amount: float
"""
CARD = 'card = system.windows(Sale, by="card", over=["1h"], sum=hr.sum("amount"))'
OTHER_CARD = 'card = system.windows(Sale, by="card", over=["1d"], sum=hr.sum("amount"), where=lambda amount: amount > 50)'
NEW = """
busy = system.windows(Sale, by="card", over=["1d"], name="busy", count=hr.count(), sum=hr.sum("amount"))
last = system.attributes(Sale, by="card", columns=["amount"], name="last")


@system.features
def twice(amount, busy_sum_1d):
    return {{"twice": amount * 2 + busy_sum_1d}}
"""
MODEL = """

@system.model(features={features}, label=hr.no_event(Sale, by="card", within="5m"), spine=Sale)
def silent(rows, labels):
    raise NotImplementedError("the test brings its models along")


system.service(silent, request=Sale, name="score", release=hr.canary(50, each="30d"))
"""
BRING_ALONG = 'raise NotImplementedError("the test brings its models along")'
FITTED = """from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior").fit(rows, labels)"""
REFUNDS = """

@system.stream(id="n", key="card", time="at")
class Refund:
    n: int
    card: int
    at: datetime


refunds = system.windows(Refund, by="card", over=["1d"], name="refunds", count=hr.count())
"""
EVERYONE = """
everyone = system.windows(Sale, by=(), over=["1d"], name="everyone", count=hr.count(), sum=hr.sum("amount"))
"""
OLD_FEATURES, NEW_FEATURES = '["amount", card]', '["amount", card, busy, last, twice]'
CARDS = 40
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def system(*, partitions: int = 1, card: str = CARD, new: bool = False, features: str | None = None) -> str:
    chosen = features or (NEW_FEATURES if new else OLD_FEATURES)
    return "".join([BEGIN, card, NEW if new else "", MODEL]).format(partitions=partitions, features=chosen)


def sale(number: int) -> dict[str, Any]:
    """Three a minute, one in ten up to 20 hours late; whole amounts, so that sums are exact in any order."""
    chosen = random.Random(number)
    at = START + number * timedelta(seconds=20) - (chosen.random() < 0.1) * chosen.random() * 20 * HOUR
    return {"n": number, "card": chosen.randrange(CARDS), "at": at, "amount": float(chosen.randrange(100))}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "at": row["at"].isoformat()}


def within(rows: list[dict[str, Any]], card: int, at: datetime, width: timedelta) -> list[float]:
    return [row["amount"] for row in rows if row["card"] == card and at - width < row["at"] <= at]


class Traffic:
    """Two threads: one appends sales, one asks for predictions; each notes what failed. `sent` are the sales that were
    acknowledged, `answers` how often each version answered."""

    def __init__(self, run: Running, *, first: int, batch: int = 100) -> None:
        """`first` sales are there before the threads begin."""
        self.run, self.failures = run, list[str]()
        self.sent: list[dict[str, Any]] = []
        self.append([sale(number) for number in range(first)])
        self.answers: dict[int, int] = {}
        self.asking, self.asked = False, 10_000_000
        self._batch = batch
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._append), threading.Thread(target=self._ask)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def going_on(self) -> Traffic:
        """The same traffic again, after a stop."""
        again = Traffic(self.run, first=0)
        again.sent, again.answers, again.failures, again.asking = self.sent, self.answers, self.failures, True
        again.asked = self.asked
        return again

    def append(self, rows: list[dict[str, Any]]) -> None:
        status, answer = append(self.run, rows)
        if status != 200:
            self.failures.append(f"append {status} {answer}")
        self.sent += rows

    def _append(self) -> None:
        while not self._stop.wait(0.02):
            first = len(self.sent)
            self.append([sale(number) for number in range(first, first + self._batch)])

    def _ask(self) -> None:
        while not self._stop.wait(0.005):
            if not self.asking:
                continue
            self.asked += 1
            newest = self.sent[-1]["at"] if self.sent else START
            body = json.dumps({**shown(sale(self.asked)), "at": newest.isoformat()}).encode()
            status, answer, _ = self.run.ask("POST", "/services/score/predict", body)
            if status != 200:
                self.failures.append(f"predict {status} {answer}")
            else:
                self.answers[answer["version"]] = self.answers.get(answer["version"], 0) + 1


def append(run: Running, rows: list[dict[str, Any]]) -> tuple[int, Any]:
    body = "\n".join(json.dumps(shown(row)) for row in rows).encode()
    status, answer, _ = run.ask("POST", "/streams/sale/events", body, Content_Type="application/x-ndjson")
    return status, answer


def until(true: Callable[[], bool], what: Callable[[], object] = lambda: "", seconds: float = 90) -> None:
    deadline = MACHINE.monotonic() + seconds
    while not true():
        assert MACHINE.monotonic() < deadline, what()
        MACHINE.sleep(0.05)


def reload(run: Running) -> dict[str, Any]:
    status, answer, _ = run.ask("POST", "/api/v1/reload", b"{}")
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def linear_model(weights: list[float]) -> bytes:
    """Logistic regression; a missing value counts as 0."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["filled"]),
        helper.make_node("MatMul", ["filled", "w"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    given = {"w": np.array(weights, np.float32).reshape(-1, 1), "zero": np.float32(0)}
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString())


def release(run: Running, folder: Path, weights: list[float]) -> int:
    """Register a logistic regression of these weights, approve it and start its rollout."""
    file = folder / f"model{len(weights)}-{weights[-1]}.onnx"
    file.write_bytes(linear_model(weights))
    code, made = run.command("registry", "register", "silent", "--artifact", file)
    assert code == 0, made
    number: int = made["version"]
    for path, body in (
        (f"/api/v1/registry/silent/versions/{number}/approve", {"reason": "a test"}),
        ("/api/v1/rollouts", {"service": "score", "version": number}),
    ):
        status, answer, _ = run.ask("POST", path, json.dumps(body).encode())
        assert status == 200, answer
    return number


def promote(run: Running) -> None:
    """Give every request to the challenger."""
    (newest, *_) = run.ask("GET", "/api/v1/rollouts")[1]
    status, answer, _ = run.ask("POST", f"/api/v1/rollouts/{newest['id']}/promote", b'{"reason": "a test"}')
    assert (status, answer["state"]) == (200, "promoted"), answer


def service(run: Running) -> dict[str, Any]:
    (found,) = run.ask("GET", "/api/v1/services")[1]
    return dict(found)


def all_applied(run: Running, count: int) -> bool:
    (status,) = run.ask("GET", "/api/v1/streams")[1]
    return bool(status["accepted"] == count == status["end"])


def parity(run: Running) -> dict[str, Any]:
    status, found, _ = run.ask("GET", "/api/v1/services/score/parity")
    assert status == 200, found
    return dict(found)


def check_values(run: Running, rows: list[dict[str, Any]], *, new: bool) -> None:
    """Every key's features, as the online store has them now, are those of a plain loop over the acknowledged sales."""
    at = max(row["at"] for row in rows)
    by_card: dict[int, list[dict[str, Any]]] = {card: [] for card in range(CARDS)}
    for row in rows:
        by_card[row["card"]].append(row)
    for card in range(CARDS):
        asked = {"field": [f"card={card}", "amount=1"], "at": at.isoformat()}
        status, found, _ = run.ask("POST", "/api/v1/features/silent/values", json.dumps(asked).encode())
        assert status == 200, found
        expected: dict[str, Any] = {"amount": 1.0, "card_sum_1h": sum(within(by_card[card], card, at, HOUR), 0.0)}
        if new:
            day = within(by_card[card], card, at, DAY)
            newest = max(by_card[card], key=lambda row: (row["at"], row["n"]), default=None)
            expected |= {"busy_count_1d": len(day), "busy_sum_1d": sum(day), "twice": 2.0 + sum(day)}
            expected["last_amount"] = None if newest is None else newest["amount"]
        different = {
            name: (found["values"].get(name), value) for name, value in expected.items() if found["values"].get(name) != value
        }
        assert not different, (card, different, found["positions"])


def check_logged(run: Running, rows: list[dict[str, Any]], out: Path) -> dict[int, int]:
    """Every logged value of `card_sum_1h` and `card_sum_1d` is that of a plain loop over what was applied then, with the
    definition of the version; the number of records of each version. Offsets count the sales in the order of `rows`."""
    code, _ = run.command("predictions", "export", "score", "--out", out)
    assert code == 0
    counts: dict[int, int] = {}
    for row in pl.read_parquet(out).rows(named=True):
        counts[row["version"]] = counts.get(row["version"], 0) + 1
        applied = rows[: json.loads(row["read_position"])["card"]["sale"] + 1]
        hour, day = (within(applied, int(row["entity_key"]), row["at"], width) for width in (HOUR, DAY))
        expected = (sum(hour, 0.0), None) if row["version"] == 1 else (None, sum((value for value in day if value > 50), 0.0))
        assert (row["card_sum_1h"], row["card_sum_1d"]) == expected, row
    return counts
