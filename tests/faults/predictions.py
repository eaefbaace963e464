"""Phase 3: predictions are asked for while the serve process and its parent are killed."""

from __future__ import annotations

import json
import queue
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from deliveries import applied, open_world
from killing import Line, Lost, until
from orders_system import Event, Windows, micros
from trainings import equal, send_orders

from headrace.data.history import log_history

CLIENTS = 4
ABANDONED = 0.1
ASKED_AGAIN = 0.15
LIVE = ("champion", "canary")


@dataclass
class Answered:
    """What the clients know, outside of the processes: each acknowledged request with its answer."""

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    requests: dict[int, Event] = field(default_factory=dict)
    unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, request: Event, answer: dict[str, Any]) -> None:
        """A second answer to the same request must be the first."""
        with self.lock:
            earlier = self.answers.setdefault(request["order_id"], answer)
        assert (answer["prediction_id"], answer["score"]) == (earlier["prediction_id"], earlier["score"])


def predict(line: Line, request: Event) -> dict[str, Any]:
    """Ask once. Requests with an odd id bring a key of their own, the others are known by the request's id field."""
    number = request["order_id"]
    headers = {"Idempotency_Key": f"key-{number}"} if number % 2 else {}
    status, answer = line.ask("POST", "/services/scoring/predict", json.dumps(request).encode(), **headers)
    assert status == 200, answer
    return dict(answer)


def client(line: Line, seed: int, requests: queue.SimpleQueue[Event], answered: Answered, killed: threading.Event) -> None:
    """Ask request after request; what is not answered is asked again, now and then given up; some are asked twice. When
    there are no more, ask old ones again until all is killed."""
    draw = random.Random(seed)
    while True:
        try:
            request = requests.get_nowait()
        except queue.Empty:
            if killed.is_set():
                return
            request = answered.requests[draw.choice(list(answered.answers))]
        answered.requests[request["order_id"]] = request
        while True:
            try:
                answered.note(request, predict(line, request))
            except Lost:
                answered.unanswered += 1
                if draw.random() < ABANDONED:
                    break
                line.wait_until_up()
                continue
            if draw.random() >= ASKED_AGAIN:
                break


def run(line: Line, seed: int, kills: int, asked: list[Event]) -> Answered:
    """Ask for everything, with `kills` kills meanwhile; many of the orders arrive by the stream, some of
    them before they are asked about."""
    answered = Answered()
    requests: queue.SimpleQueue[Event] = queue.SimpleQueue()
    killed = threading.Event()
    send_orders(line, asked[::4])
    for request in asked:
        requests.put(request)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, line, seed + number, requests, answered, killed) for number in range(CLIENTS)]
        try:
            for number in range(kills):
                share = len(asked) * (number + line.random.random()) / (kills + 1)
                until(lambda share=share: len(answered.answers) >= share or requests.empty(), "requests are answered")
                send_orders(line, asked[number + 1 :: 4 * kills])  # so that a kill meets them being applied
                line.pause(0.02)
                line.kill("serving", "serve" if number % 2 else "parent")
                line.wait_until_up()
        finally:
            killed.set()
        for one in clients:
            one.result()
    for number in line.random.sample(sorted(answered.answers), 40):
        answered.note(answered.requests[number], predict(line, answered.requests[number]))
    line.settle()
    return answered


def exported(line: Line, folder: Path) -> pl.DataFrame:
    """The prediction log."""
    path = folder / "predictions.parquet"
    line.command("predictions", "export", "scoring", "--out", path)
    return pl.read_parquet(path)


def check(line: Line, answered: Answered, folder: Path) -> None:
    """Every acknowledged prediction is in the log exactly once with the answered score, any other one at most once, and its
    request is an event; the features of each are those of a plain loop over the events at the logged positions."""
    log = exported(line, folder).filter(pl.col("role").is_in(LIVE))
    assert log["prediction_id"].is_unique().all(), "a prediction was logged twice"
    assert len(answered.answers) <= log.height <= len(answered.requests)
    rows = {row["prediction_id"]: row for row in log.iter_rows(named=True)}
    ctx = open_world(line)
    try:
        orders = log_history(ctx, "order")
        windows = Windows(applied(orders), applied(log_history(ctx, "complaint")))
    finally:
        ctx.close()
    known = orders["order_id"].to_list()
    assert len(known) == len(set(known)) and set(answered.answers) <= set(known), "an answered request is an event, once"
    for number, answer in answered.answers.items():
        assert answer["prediction_id"] in rows, "an acknowledged prediction was lost"
        row, request = rows[answer["prediction_id"]], answered.requests[number]
        assert (row["score"], row["version"], row["entity_key"]) == (answer["score"], answer["version"], request["customer"])
        expected = windows.features(request, micros(row["at"]), json.loads(row["read_position"]))
        for name, value in expected.items():
            assert equal(row[name], value), (row, name, value)


def check_parity(line: Line) -> None:
    """In a fresh process, from the event log alone, every logged value is recomputed: none differs."""
    parity = line.command("parity", "scoring")
    assert parity["values_compared"] > 0
    assert parity["values_different"] == 0, parity["differences"][:3]
