"""A system whose stream lies in several partitions, the processes that apply it, and how they are killed and paused.

Run as a program it is one of these processes: `worker_world.py DATA NAME`.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import headrace as hr
from headrace.app.applying import Applying
from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.data.quarantine import entries
from headrace.data.status import stream_status
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import FeatureSet
from headrace.kernel.clocks import MACHINE, FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.times import DAY, format_time, parse_time

system = hr.System("shared")
PARTITIONS = 5
CUSTOMERS = 40
STRANGE = 1000
"""Customers from here on have events whose id came before with another customer: which of both is first is not told."""
START = parse_time("2026-01-01T00:00:00Z")
NOW = START + 20 * DAY
LEASE = 0.7


@system.stream(id="id", key="customer", time="at", partitions=PARTITIONS, lateness="30d")
class Order:
    id: str
    at: datetime
    customer: int
    shop: str | None
    amount: float


@system.stream(id="n", key="n", time="at", partitions=3)
class Return:
    n: int
    id: str
    at: datetime


by_customer = system.windows(
    Order,
    by="customer",
    over=["1d", "7d"],
    n=hr.count(),
    total=hr.sum("amount"),
    last=hr.last("amount"),
    kinds=hr.distinct("id"),
)


def known(customer: Any) -> Any:
    """Not strange."""
    return customer < 1000


returned = system.join(Order, Return, on="id")
by_shop = system.windows(Order, by="shop", over=["1d", "7d"], n=hr.count(), total=hr.sum("amount"), last=hr.last("amount"))
everyone = system.windows(
    Order, by=(), over=["1d"], name="everyone", where=known, n=hr.count(), total=hr.sum("amount"), who=hr.distinct("customer")
)
risk = system.windows(returned, by="shop", over=["7d"], name="risk", n=hr.count(), share=hr.share(Return))
SPECS = system.specs()
STREAMS = ("order", "return")
SHOPS = ("north", "east", "south", "west")
FEATURES = FeatureSet((by_customer, by_shop, everyone, risk))


def opened(folder: Path) -> Context:
    return open_context(Settings(data=folder), "shared", SPECS, clock=FixedEventClock(NOW))


def event(id: str, customer: int, at: int, amount: float, shop: str | None = None) -> bytes:
    return json.dumps({"id": id, "at": format_time(at), "customer": customer, "shop": shop, "amount": amount}).encode()


def returns(count: int, seed: int) -> list[bytes]:
    """Every fifth order comes back, some before it is there."""
    chosen = random.Random(seed)
    numbers = range(0, count, 5)
    times = (START + number * (18 * DAY) // count + chosen.randrange(DAY) for number in numbers)
    ids = (max(number - chosen.randrange(-40, 80), 0) for number in numbers)
    rows = ({"n": n, "id": f"e{i}", "at": format_time(at)} for n, i, at in zip(numbers, ids, times, strict=True))
    return [json.dumps(row).encode() for row in rows]


def story(count: int, seed: int) -> list[bytes]:
    """`count` new events out of order, some of them twice or more, some refused, some with another's id."""
    chosen = random.Random(seed)
    values: list[bytes] = []
    for number in range(count):
        at = START + number * (18 * DAY) // count - chosen.randrange(2 * DAY) * (number % 10 == 0)
        customer = int(CUSTOMERS * chosen.random() ** 2)
        shop = chosen.choice((*SHOPS, SHOPS[0], None))
        values.append(event(f"e{number}", customer, at, chosen.randrange(10_000) / 100, shop))
        if number % 7 == 0:
            values.append(chosen.choice([value for value in values[-400:] if b"same" not in value]))
        if number % 23 == 0:
            values.append(b'{"id": "bad%d", "customer": %d' % (number, customer))
        if number % 50 == 0:
            for other in range(2):
                values.append(event(f"same{number}", STRANGE + chosen.randrange(50) * 2 + other, at, 1.0))
    return values


def apply_all(ctx: Context) -> None:
    """Without interruption, by one process."""
    applying = Applying(ctx, "alone")
    while applying.step():
        pass
    applying.leave()


@dataclass
class Outcome:
    """What is equal whoever applied the stream, and however often he was killed."""

    accepted: list[tuple[str, int]]
    refused: list[int]
    counts: tuple[int, int, int, int]
    values: list[bytes]


def outcome(ctx: Context) -> Outcome:
    """Checks what must hold in itself: the lake has each event once, and online values are those of the log."""
    status, others = stream_status(ctx)
    assert status.lag == others.lag == 0
    rows = ctx.lake.read("shared/streams/order")
    assert rows.select("_partition", "_offset").n_unique() == rows.height == status.accepted
    assert rows["id"].n_unique() == rows.height, "no id is accepted twice"
    from_log, from_lake = log_history(ctx, "order"), history(ctx, "order")
    assert from_log.equals(from_lake)
    refused = [entry.offset for entry in entries(ctx, "order")]
    assert len(refused) == len(set(refused)) == status.quarantined
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="order")
    at = START + 17 * DAY
    customers = [*range(CUSTOMERS), *range(STRANGE, STRANGE + 100)]
    asked = [{"customer": customer, "shop": SHOPS[customer % 4], "id": None} for customer in customers]
    found = [reader.read(request, at, None) for request in asked]
    reads = [LoggedRead(request, at, None, row.positions) for request, row in zip(asked, found, strict=True)]
    frames = {"order": from_log, "return": log_history(ctx, "return")}
    again = recompute(FEATURES, reads, frames, SPECS, asking="order")
    values = np.array([row.values for row in found])
    assert values.tobytes() == again.tobytes(), "parity"
    columns = dict(zip(FEATURES.columns, values[:CUSTOMERS].T, strict=True))
    assert all(columns[name].any() for name in ("customer_n_1d", "shop_total_7d", "everyone_n_1d", "risk_share_7d"))
    assert columns["shop_n_7d"].tolist() == columns["risk_n_7d"].tolist()
    normal = from_lake.filter(from_lake["customer"] < STRANGE)
    return Outcome(
        sorted(normal.select("id", "customer").rows()),
        sorted(offset for offset, entry in zip(refused, entries(ctx, "order"), strict=True) if not entry.id.startswith("same")),
        (status.accepted, status.redelivered, status.quarantined, status.end),
        [row.tobytes() for row in values[:CUSTOMERS]],
    )


@dataclass
class Workers:
    """Processes that apply the stream, each under its name."""

    folder: Path
    names: Sequence[str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    working: set[str] = field(default_factory=set)
    kills: list[str] = field(default_factory=list)

    def start(self, name: str) -> None:
        command = [sys.executable, __file__, str(self.folder), name]
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def some(self, chosen: random.Random) -> str:
        """One that is at work: a process that has not begun yet would be killed in vain."""
        while True:
            for name, process in self.processes.items():
                if name not in self.working and select.select([process.stdout], [], [], 0)[0]:
                    assert process.stdout is not None
                    assert process.stdout.readline() == b"ready\n"
                    self.working.add(name)
            if self.working:
                return chosen.choice(sorted(self.working))
            MACHINE.sleep(0.01)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        self.working.remove(name)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.kills.append(name)
        print(f"kill {len(self.kills)}: worker {name}, pid {process.pid}", flush=True)

    def pause(self, name: str, seconds: float) -> None:
        """As a machine that hangs: longer than the lease, others take over; then it goes on where it stood."""
        self.processes[name].send_signal(signal.SIGSTOP)
        MACHINE.sleep(seconds)
        self.processes[name].send_signal(signal.SIGCONT)

    def stop(self) -> list[int]:
        """End all by SIGTERM; their exit codes."""
        while len(self.working) < len(self.processes):
            self.some(random.Random(0))
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=60) for process in self.processes.values()]
        for process in self.processes.values():
            process.communicate()
        return codes


def wait_applied(ctx: Context, seconds: float = 120.0) -> None:
    deadline = MACHINE.monotonic() + seconds
    while any(status.lag for status in stream_status(ctx)):
        assert MACHINE.monotonic() < deadline, f"not applied: {stream_status(ctx)}"
        MACHINE.sleep(0.05)


def append(ctx: Context, values: Sequence[bytes], batch: int, *, stream: str = "order") -> None:
    for first in range(0, len(values), batch):
        append_raw(ctx, stream, values[first : first + batch])


def main(folder: Path, name: str) -> None:
    """Apply until SIGTERM, or until the standard input ends with the one who started it."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    applying = Applying(opened(folder), name, lease=LEASE)
    threading.Thread(target=_renew, args=(applying,), daemon=True).start()
    print("ready", flush=True)
    while not stopping.is_set():
        if not applying.step(max_records=300):
            stopping.wait(0.01)
    applying.leave()


def _renew(applying: Any) -> None:
    while True:
        applying.renew()
        MACHINE.sleep(LEASE / 4)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
