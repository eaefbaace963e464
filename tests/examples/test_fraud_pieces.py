"""The pieces of the fraud story: the generator, the shift, the broken events, the publication's evaluation."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fraud_modules import fraud

from headrace.kernel.errors import InvalidInput

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def payments() -> Iterator[pl.DataFrame]:
    yield fraud("generator").generate(100_000, seed=1)


def test_the_generator_keeps_the_proportions_of_the_publication(payments: pl.DataFrame) -> None:
    assert len(payments) == 100_000
    assert 0.005 <= payments["is_fraud"].mean() <= 0.015  # type: ignore[operator]
    assert set(payments["scenario"].unique()) == {0, 1, 2, 3}
    assert payments["tx_id"].to_list() == list(range(100_000))
    assert payments["at"].is_sorted()
    days = payments["at"].max() - payments["at"].min()  # type: ignore[operator]
    assert timedelta(days=150) < days < timedelta(days=183)  # type: ignore[operator]
    assert (payments["amount"] >= 0).all()
    customers = payments["customer_id"].n_unique()
    assert 1.8 < 100_000 / customers / 183 < 2.1  # 1.92 in the published file


def test_the_generator_gives_the_same_payments_for_the_same_seed(payments: pl.DataFrame) -> None:
    generate = fraud("generator").generate
    assert payments.equals(generate(100_000, seed=1))
    assert not payments["amount"].equals(generate(100_000, seed=2)["amount"])


def test_from_the_day_of_the_shift_sixty_percent_of_the_customers_spend_double(payments: pl.DataFrame) -> None:
    since = datetime(2018, 8, 30, tzinfo=UTC)
    shifted = fraud("payments").shifted(payments, since, 0)
    before = payments["at"] < since
    assert shifted.filter(before).equals(payments.filter(before))
    ratio = shifted["amount"] / payments["amount"]
    changed = payments.filter((ratio - 2).abs() < 0.01)["customer_id"].n_unique()
    asked = payments.filter(~before)["customer_id"].n_unique()
    assert 0.5 < changed / asked < 0.7


def test_a_fraud_is_reported_seven_days_later_and_nothing_else_is(payments: pl.DataFrame) -> None:
    reports = fraud("payments").reports(payments)
    frauds = payments.filter("is_fraud")
    assert reports.columns == ["tx_id", "at"]
    assert sorted(reports["tx_id"]) == sorted(frauds["tx_id"])
    both = reports.join(frauds, on="tx_id", suffix="_payment")
    assert (both["at"] - both["at_payment"] == 7 * DAY).all()


def test_the_broken_events_are_broken_in_six_ways(payments: pl.DataFrame) -> None:
    lines = fraud("payments").broken(payments, 50, 1_000_000, 0)
    assert len(lines) == 50

    def whole(line: bytes) -> bool:
        try:
            json.loads(line)
        except ValueError:
            return False
        return True

    events = [json.loads(line) for line in lines if whole(line)]
    known = set(payments["tx_id"])
    assert 0 < 50 - len(events) <= 9
    assert any(isinstance(e.get("amount"), str) for e in events)
    assert any(isinstance(e.get("amount"), float) and e["amount"] < 0 for e in events)
    assert any("customer_id" not in e for e in events)
    assert any(e["at"].startswith("3000") for e in events)
    assert sum(e["tx_id"] in known for e in events) == 8


def test_a_file_of_payments_is_read_and_a_wrong_one_named(payments: pl.DataFrame, tmp_path: Path) -> None:
    module = fraud("payments")
    wanted = payments.select(list(module.TYPES)).sort("tx_id")
    payments.sample(fraction=1, shuffle=True, seed=0).write_parquet(tmp_path / "p.parquet")
    payments.write_csv(tmp_path / "p.csv")
    assert module.read(tmp_path / "p.parquet").equals(wanted)
    assert module.read(tmp_path / "p.csv").equals(wanted)
    payments.drop("terminal_id").write_parquet(tmp_path / "q.parquet")
    with pytest.raises(InvalidInput, match="no column `terminal_id`"):
        module.read(tmp_path / "q.parquet")
    with pytest.raises(InvalidInput, match="neither"):
        module.read(tmp_path / "q.json")


def test_the_plan_of_the_published_days_is_the_published_split(payments: pl.DataFrame) -> None:
    published = fraud("published")
    plan = fraud("plan").plan(payments["at"].min(), payments["at"].max())
    assert (plan.train_from, plan.train_to) == (published.TRAIN_FROM, published.TRAIN_TO)
    assert (plan.test_from, plan.test_to, plan.start) == (published.TEST_FROM, published.TEST_TO, published.TEST_KNOWN)
    assert plan.start < plan.shift < plan.end
    with pytest.raises(InvalidInput, match="needs payments of"):
        fraud("plan").plan(payments["at"].min(), payments["at"].min() + 100 * DAY)  # type: ignore[operator]


def frame(rows: list[tuple[int, int, bool, float]]) -> pl.DataFrame:
    """(day, customer, label, score) as asking rows."""
    first = datetime(2018, 7, 25, 12, tzinfo=UTC)
    return pl.DataFrame(
        {
            "at": [first + day * DAY for day, *_ in rows],
            "customer_id": [row[1] for row in rows],
            "label": [int(row[2]) for row in rows],
            "score": [row[3] for row in rows],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def test_customers_known_to_be_defrauded_are_left_out_of_the_test() -> None:
    history = frame([(0, 1, True, 0.0), (6, 2, True, 0.0), (7, 3, True, 0.0), (3, 4, False, 0.0)])
    good = [(14, 3, True, 0.9), (14, 4, False, 0.1), (15, 4, False, 0.2)]
    dropped = [(14, 1, False, 0.99), (14, 2, False, 0.98), (15, 3, False, 0.97)]
    evaluate = fraud("evaluation").on_known_good_cards
    found = evaluate(history, frame(good + dropped))
    assert found == evaluate(history.clear(), frame(good))
    assert found["auc_roc"] == 1.0
    assert evaluate(history.clear(), frame(good + dropped))["auc_roc"] < 1


def test_card_precision_counts_cards_and_forgets_those_found_before() -> None:
    precision = fraud("evaluation").card_precision
    rows = [
        (0, 1, True, 0.2), (0, 1, False, 0.9),   # the card's highest score counts, and any of its frauds
        (0, 2, False, 0.8), (0, 3, True, 0.1),
        (1, 1, True, 0.99), (1, 2, True, 0.5), (1, 3, False, 0.4),
    ]  # fmt: skip
    day, customer, label, score = (np.array(column) for column in zip(*rows, strict=True))
    assert precision(day, customer, label, score, 1) == (1 + 1) / 2  # day 0: card 1; day 1: card 1 is gone, card 2
    assert precision(day, customer, label, score, 2) == (1 / 2 + 1 / 2) / 2


def test_the_clients_see_resets_and_never_retry(payments: pl.DataFrame) -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            bodies.append(body)
            if body == b'"reset"':
                writer.close()
                return
            status = b"400 Bad" if body == b'"bad"' else b"200 OK"
            answer = b'{"is":' + body + b"}"
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)

    ready = threading.Event()
    port: list[int] = []
    loop = asyncio.new_event_loop()

    def run() -> None:
        async def start() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port.append(server.sockets[0].getsockname()[1])
            ready.set()

        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    clients = fraud("client").Clients("127.0.0.1", port[0], "/x", connections=2)
    asked = [b'"a"', b'"reset"', b'"bad"', b'"b"', b'"c"']
    answers = clients.ask(asked)
    again = clients.ask([b'"d"'])
    clients.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert [a.status for a in answers] == [200, 0, 400, 200, 200]
    assert answers[3].body == {"is": "b"}
    assert again[0].status == 200
    assert sorted(bodies) == sorted([*asked, b'"d"'])
