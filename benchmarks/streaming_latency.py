"""From an event to its value online, through the public door of a real `headrace run`: a part of `benchmarks/streaming.py`.

A producer sends NDJSON batches at a steady rate, whether or not the answers come; every so often a batch ends with an event
of a new key, and a reader asks for the values of that key until they are there. A latency begins when the batch was to be
sent, so that a stall counts for everything that waits for it.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fraud_world
import numpy as np
from load import cpu_seconds

from headrace.data.appending import append_raw
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings
from headrace.system.load import load_system

SYSTEM = Path(__file__).resolve().parent / "streaming_system.py"
KEYS = 100_000
PROBES_PER_SECOND = 25
BATCHES_PER_SECOND = 50
PATIENCE_S = 120.0
POLL_S = 0.002
Send = Callable[[list[bytes]], object]


class Running:
    """A running system whose windows have KEYS keys already."""

    def __init__(self, door: fraud_world.Door) -> None:
        self.door = door
        self._random = np.random.default_rng(3)
        self._next = 0
        day_ms = 86_400_000
        for _ in range(20):
            ago = np.sort(self._random.integers(0, day_ms, KEYS // 10))[::-1]
            door.send("payment", self.events(_now_ms() - ago, self._random.integers(0, KEYS, KEYS // 10)))
        self.settle()

    def events(self, at: np.ndarray, users: np.ndarray) -> list[bytes]:
        first = self._next
        self._next += len(users)
        rows = zip(range(first, self._next), at.tolist(), users.tolist(), strict=True)
        return [b'{"event_id":%d,"at":%d,"user":%d,"amount":%.2f}' % (n, t, user, n % 1000 / 10) for n, t, user in rows]

    def batch(self, size: int) -> list[bytes]:
        return self.events(np.full(size, _now_ms()), self._random.integers(0, KEYS, size))

    def probe(self, user: int) -> list[bytes]:
        return self.events(np.full(1, _now_ms()), np.full(1, user))

    def settle(self) -> None:
        while any(stream["lag"] for stream in self.door.get("/streams")):
            time.sleep(0.05)

    @property
    def work_pid(self) -> int:
        return int(json.loads((self.door.data / "run/streaming/ready.json").read_text())["pid"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Reader(threading.Thread):
    """Asks for each probe in turn until its value is there; `seconds` are the latencies."""

    def __init__(self, address: tuple[str, int], probes: queue.Queue[tuple[int, float] | None]) -> None:
        super().__init__(daemon=True)
        self._door = _Client(address)
        self._probes = probes
        self.seconds: list[float] = []
        self.lost: list[int] = []

    def run(self) -> None:
        while (probe := self._probes.get()) is not None:
            user, sent = probe
            while not self._there(user):
                time.sleep(POLL_S)
                if time.perf_counter() - sent > PATIENCE_S:
                    self.lost.append(user)
                    break
            self.seconds.append(time.perf_counter() - sent)

    def _there(self, user: int) -> bool:
        values = self._door.post("/api/v1/features/payments_hour/values", b'{"field":["user=%d"]}' % user)["values"]
        return bool(values["payments_hour_count_1h"])


class _Client:
    """Keep-alive requests."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=60)

    def post(self, path: str, body: bytes, kind: str = "application/json") -> dict[str, dict[str, float]]:
        self._connection.request("POST", path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"POST {path}: {answer.status} {text.decode(errors='replace')[:500]}")
        found: dict[str, dict[str, float]] = json.loads(text)
        return found


def measure(running: Running, send: Send, *, rate: int, seconds: float, first_probe: int) -> dict[str, float]:
    """p50, p99 and the longest in milliseconds, the rate that was reached, and the CPU share of the work process."""
    probes: queue.Queue[tuple[int, float] | None] = queue.Queue()
    reader = Reader(running.door.address, probes)
    reader.start()
    every = BATCHES_PER_SECOND // PROBES_PER_SECOND
    size = max(1, rate // BATCHES_PER_SECOND)
    used, began = cpu_seconds(running.work_pid), time.perf_counter()
    sent = 0
    for number in range(round(seconds * BATCHES_PER_SECOND)):
        due = began + number / BATCHES_PER_SECOND
        events = running.batch(size)
        if number % every == 0:
            events[-1:] = running.probe(first_probe + number)
        time.sleep(max(0.0, due - time.perf_counter()))
        send(events)
        sent += len(events)
        if number % every == 0:
            probes.put((first_probe + number, due))
    reached = sent / (time.perf_counter() - began)
    probes.put(None)
    reader.join()
    if reader.lost:
        raise RuntimeError(f"{len(reader.lost)} of {len(reader.seconds)} probes never came, the first {reader.lost[0]}")
    cpu = (cpu_seconds(running.work_pid) - used) / (time.perf_counter() - began)
    p50, p99, most = (float(q) * 1e3 for q in np.quantile(reader.seconds, [0.5, 0.99, 1.0]))
    return {"probes": len(reader.seconds), "p50_ms": p50, "p99_ms": p99, "max_ms": most, "rate": reached, "cpu": cpu}


@contextmanager
def through_http(running: Running) -> Iterator[Send]:
    client = _Client(running.door.address)
    yield lambda events: client.post("/streams/payment/events", b"\n".join(events), "application/x-ndjson")


@contextmanager
def through_the_log(running: Running) -> Iterator[Send]:
    """A process beside it that appends to the log itself."""
    ctx = open_context(
        Settings(data=running.door.data), "streaming", load_system(str(SYSTEM)).specs(), clock=RealEventClock()
    )  # fmt: skip
    yield lambda events: append_raw(ctx, "payment", events)
    ctx.close()


@contextmanager
def running_system(folder: Path) -> Iterator[Running]:
    with fraud_world.Door(SYSTEM, folder / "data", clock="real") as door:
        yield Running(door)
