"""Phase 1: events enter over HTTP and by `headrace ingest` while processes are killed."""

from __future__ import annotations

import queue
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl
from killing import KILLS, Line, Lost, until
from orders_system import DAYS, ORDERS_A_DAY, Applied, Event, complaints, day, lines, micros, orders

from headrace.app.world import context
from headrace.data.history import history, log_history
from headrace.engines.context import Context

CLIENTS = 3
BATCH = 20
ABANDONED = 0.15
"""How often a client gives an unanswered batch up for ever."""


@dataclass
class Delivered:
    """What the clients know, outside of the processes that are killed: the list of acknowledgements."""

    sent: dict[str, dict[int, Event]] = field(default_factory=lambda: {"order": {}, "complaint": {}})
    acknowledged: dict[str, set[int]] = field(default_factory=lambda: {"order": set(), "complaint": set()})
    unanswered: int = 0
    given_up: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note_sent(self, stream: str, events: list[Event]) -> None:
        with self.lock:
            self.sent[stream].update({event["order_id"]: event for event in events})

    def note_acknowledged(self, stream: str, events: list[Event]) -> None:
        with self.lock:
            self.acknowledged[stream].update(event["order_id"] for event in events)


def deliver(
    line: Line, seed: int, batches: queue.SimpleQueue[list[Event]], delivered: Delivered, killed: threading.Event
) -> None:
    """One client: it sends batch after batch; an unanswered one is sent again, now and then it is given up. When there are
    no more, it sends old ones again until all is killed."""
    draw = random.Random(seed)
    own: list[list[Event]] = []
    while True:
        try:
            batch = batches.get_nowait()
        except queue.Empty:
            if killed.is_set() or not own:
                return
            batch = draw.choice(own)
        else:
            own.append(batch)
        delivered.note_sent("order", batch)
        while True:
            try:
                status, answer = line.ask("POST", "/streams/order/events", lines(batch), Content_Type="application/x-ndjson")
            except Lost:
                delivered.unanswered += 1
                if draw.random() < ABANDONED:
                    delivered.given_up += 1
                    break
                line.wait_until_up()
                continue
            assert (status, answer["appended"]) == (200, len(batch)), answer
            delivered.note_acknowledged("order", batch)
            break


def ingest(line: Line, path: Path, part: list[Event], delivered: Delivered, *, killed: bool) -> None:
    """`headrace ingest` of one file, which is killed as soon as something enters the stream or at a random moment before;
    then the whole file again."""
    path.write_bytes(lines(part))
    delivered.note_sent("complaint", part)
    if killed:
        topic = line.data / "events" / "shop" / "streams" / "complaint"
        size = _size(topic)
        process = line.popen("ingest", "complaint", path)
        early = line.random.random() < 0.3
        if early:
            line.pause(1.0)
        else:
            until(lambda: _size(topic) != size or process.poll() is not None, "the command appends")
        if process.poll() is None:
            process.kill()
            KILLS["ingestion"] += 1
        process.communicate()
    found = line.command("ingest", "complaint", path)
    assert found["rows"] + found["skipped"] == len(part)
    delivered.note_acknowledged("complaint", part)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.segment"))


def run(line: Line, seed: int, kills: int, folder: Path) -> Delivered:
    """25 days of orders and the complaints about them, with at least `kills` kills while they are sent."""
    delivered = Delivered()
    everything = orders(seed, 1, day(0), day(DAYS), DAYS * ORDERS_A_DAY)
    mixed = _nearly_in_order(everything, seed)
    batches: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()
    for place in range(0, len(mixed), BATCH):
        batches.put(mixed[place : place + BATCH])
    line.post("/clock", {"now": day(DAYS).isoformat()})
    about = complaints(seed, everything, day(DAYS))
    before = KILLS["ingestion"]
    parts = kills // 2
    killed = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients: list[Future[None]] = []
        try:
            for number in range(kills - kills // 2):
                share = len(everything) * (number + line.random.random()) / (kills - kills // 2)
                clients = clients or [pool.submit(deliver, line, seed + n, batches, delivered, killed) for n in range(CLIENTS)]
                until(lambda share=share: len(delivered.acknowledged["order"]) >= share or batches.empty(), "events enter")
                line.pause(0.02)
                line.kill("ingestion", "serve" if number % 3 == 1 else "parent")
        finally:
            killed.set()
        for number in range(parts):
            ingest(line, folder / f"part-{number}.ndjson", about[number::parts], delivered, killed=number < kills // 2)
        while KILLS["ingestion"] - before < kills:  # (a command ended before its kill)
            ingest(line, folder / "part-0.ndjson", about[0::parts], delivered, killed=True)
        for client in clients:
            client.result()
    line.settle()
    return delivered


def _nearly_in_order(events: list[Event], seed: int) -> list[Event]:
    """By days, within a day in any order: some arrive late."""
    draw = random.Random(seed)
    return sorted(events, key=lambda event: (event["at"][:10], draw.random()))


def open_world(line: Line) -> Context:
    """The data folder, opened in the test's process."""
    return context({"file": str(line.file), "data": str(line.data), "system": "shop", "clock": "virtual"})


def applied(frame: pl.DataFrame) -> list[Applied]:
    """The rows of a history as plain records."""
    return [Applied(row.pop("_offset"), micros(row["at"]), row) for row in frame.drop("_created").iter_rows(named=True)]


def check(line: Line, delivered: Delivered) -> None:
    """Every acknowledged event is applied exactly once, any other one at most once; all with the content that was sent."""
    status = {stream["stream"]: stream for stream in line.get("/streams")}
    ctx = open_world(line)
    try:
        for stream, sent in delivered.sent.items():
            frame = history(ctx, stream)
            assert frame.equals(log_history(ctx, stream)), "the lake and the log hold the same events"
            ids = frame["order_id"].to_list()
            assert len(ids) == len(set(ids)), "an event was applied twice"
            assert delivered.acknowledged[stream] <= set(ids), "an acknowledged event was lost"
            assert set(ids) <= set(sent)
            for row in frame.drop("_offset", "_created", "_extra").iter_rows(named=True):
                event = sent[row["order_id"]]
                assert row == {**event, "at": datetime.fromisoformat(event["at"])}
            counts = status[stream]
            assert counts["accepted"] == len(ids)
            assert counts["quarantined"] == counts["lag"] == 0
            assert counts["accepted"] + counts["redelivered"] == counts["end"]
    finally:
        ctx.close()
