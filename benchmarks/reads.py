"""Online reads of ten numbers of 1 and of 100 of 100,000 users: in process and over HTTP, beside Feast.

    python benchmarks/reads.py [--peers] [--runs 5] [--reads 2000]

Ours is read from the state of a real `headrace run`, by the reader that its services use and through its HTTP interface.
`--peers` measures Feast with its SQLite and its Redis store, from the environment that `make bench-peers` makes. Each run is a
fresh process of each side in turn, but for the servers; questions are the same, and the answers of the first ones are
compared. HTTP is one connection that is kept alive. `benchmarks/request.py` measures windows of two keys.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fraud_world
import measuring
import numpy as np
import polars as pl

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / ".venv-peers/feast/bin"
USERS, NAMES = 100_000, [f"f{number}" for number in range(10)]
READS = {1: 1.0, 100: 0.1}
"""How many users a read is of, and the share of `--reads`."""
OURS, OURS_HTTP = "headrace", "headrace HTTP"
STORES = {"sqlite": "SQLite", "redis": "Redis"}
SERVE = ["--no-access-log", "--max-requests", 1 << 30, "-r", 3600]
"""Flags of Feast's server: no log, no worker replaced meanwhile, the registry read once an hour."""
ENVIRONMENT = {**os.environ, "FEAST_USAGE": "False"}
Found = dict[str, list[tuple[float, float]] | str]
"""By side the p50 and p99 of every run in microseconds, or why it is not measured."""


def users() -> pl.DataFrame:
    """A row a user, in any order, all of one moment."""
    random = np.random.default_rng(0)
    values = {name: random.random(USERS) for name in NAMES}
    frame = pl.DataFrame({"id": np.arange(USERS), "user_id": random.permutation(USERS), **values})
    return frame.with_columns(at=pl.lit(datetime(2024, 1, 1, tzinfo=UTC)))


def questions(folder: Path, size: int, reads: int) -> Path:
    """The users of each read."""
    path = folder / f"questions_{size}.json"
    path.write_text(json.dumps(np.random.default_rng(size).integers(0, USERS, (reads, size)).tolist()))
    return path


def finish(command: list[Any]) -> str:
    """What the command prints; a failure ends the benchmark."""
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{done.stderr[-2000:]}")
    return done.stdout


def quantiles(taken: list[float]) -> tuple[float, float]:
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[Any], port: int) -> Iterator[None]:
    """A process that listens to the port."""
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"`{' '.join(map(str, command))}` does not start")
                time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class Http:
    """A server that answers questions at a path: `body` makes one of the users of a read."""

    def __init__(self, port: int, path: str, folder: Path, bodies: dict[int, list[Any]]) -> None:
        self.port, self.path, self.sizes = port, path, {}
        for size, asked in bodies.items():
            self.sizes[size] = folder / f"bodies_{port}_{size}.ndjson"
            self.sizes[size].write_text("\n".join(map(json.dumps, asked)))

    def measure(self, size: int) -> tuple[float, float]:
        outcome = json.loads(finish([
            sys.executable, HERE / "load.py", "--port", self.port, "--path", self.path, "--bodies", self.sizes[size],
            "--connections", 1, "--once",
        ]))  # fmt: skip
        if outcome["failed"]:
            sys.exit(f"{outcome['failed']} of {outcome['requests']} requests to {self.path} failed: {outcome['failures'][:1]}")
        return outcome["p50_ms"] * 1e3, outcome["p99_ms"] * 1e3


class Reads:
    """Every side, ready to be asked."""

    def __init__(self, folder: Path, reads: int) -> None:
        self.folder = folder
        self.table = folder / "users.parquet"
        users().write_parquet(self.table)
        self.asked = {size: questions(folder, size, round(reads * share)) for size, share in READS.items()}
        self.commands: dict[str, list[Any]] = {}
        self.http: dict[str, Http] = {}
        self.missing: dict[str, str] = {}

    def _bodies(self, size: int) -> list[list[int]]:
        found: list[list[int]] = json.loads(self.asked[size].read_text())
        return found

    def ours(self, stack: ExitStack) -> None:
        data = self.folder / "data"
        door = stack.enter_context(fraud_world.Door(HERE / "reads_system.py", data))
        door.post("/clock", {"now": "2024-01-02T00:00:00Z"})
        door.command("ingest", "profile", self.table)
        door.get("/settled", timeout=300)
        self.commands[OURS] = [sys.executable, HERE / "reads_ours.py", data]
        bodies = {size: [{"requests": [{"user_id": user} for user in asked]} for asked in self._bodies(size)] for size in READS}
        self.http[OURS_HTTP] = Http(door.address[1], "/features/user/read", self.folder, bodies)

    def feast(self, kind: str, stack: ExitStack) -> None:
        folder = self.folder / kind
        folder.mkdir()
        port = free_port()
        if kind == "redis":
            flags = ["--save", "", "--appendonly", "no"]
            stack.enter_context(server(["redis-server", "--port", port, "--dir", folder, *flags], port))
        script = HERE / "peers/feast_reads.py"
        finish([PEER / "python", script, "load", folder, self.table, kind, port])
        self.commands[f"Feast, {STORES[kind]}"] = [PEER / "python", script, "read", folder]
        http = free_port()
        stack.enter_context(server([PEER / "feast", "-c", folder, "serve", "-p", http, *SERVE], http))
        bodies = {size: [{"feature_service": "profile", "entities": {"user_id": asked}} for asked in self._bodies(size)]
                  for size in READS}  # fmt: skip
        self.http[f"Feast HTTP, {STORES[kind]}"] = Http(http, "/get-online-features", folder, bodies)

    def measure(self, runs: int) -> dict[int, Found]:
        """Each side in turn; answers must be those of ours."""
        found: dict[int, Found] = {size: {} for size in READS}
        for _ in range(runs):
            for size, sides in found.items():
                expected = None
                for name, command in self.commands.items():
                    answer = json.loads(finish([*command, self.asked[size]]).splitlines()[-1])
                    expected = expected or answer["answers"]
                    if answer["answers"] != expected:
                        sys.exit(f"{name} answers otherwise than {OURS}")
                    sides.setdefault(name, []).append(quantiles(answer["taken"]))  # type: ignore[union-attr]
                for name, http in self.http.items():
                    sides.setdefault(name, []).append(http.measure(size))  # type: ignore[union-attr]
        for sides in found.values():
            sides.update(self.missing)
        return found


def not_measured(kind: str, peers: bool) -> str | None:
    """Why a peer is not measured."""
    if not peers:
        return "not measured: without --peers"
    if not (PEER / "feast").exists():
        return "not measured: its environment is missing, `make bench-peers` makes it"
    return "not measured: there is no redis-server" if kind == "redis" and shutil.which("redis-server") is None else None


def show(found: dict[int, Found]) -> None:
    for size, sides in found.items():
        print(f"\n{size} of {USERS:,} users, {len(NAMES)} numbers each, microseconds a read")
        for name, runs in sides.items():
            if isinstance(runs, str):
                print(f"  {name:<20} {runs}")
            else:
                p50, p99 = ([run[place] for run in runs] for place in (0, 1))
                print(f"  {name:<20} p50 {measuring.spread(p50, 1):<28} p99 {measuring.spread(p99, 1)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--reads", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, ExitStack() as stack:
        sides = Reads(Path(folder), options.reads)
        sides.ours(stack)
        for kind, store in STORES.items():
            reason = not_measured(kind, options.peers)
            if reason is None:
                sides.feast(kind, stack)
            else:
                sides.missing[f"Feast, {store}"] = reason
        show(sides.measure(options.runs))
    print(measuring.machine("headrace", "numpy", "lmdb"))
    if options.peers and (PEER / "feast").exists():
        version = finish([PEER / "python", "-c", "import importlib.metadata as found; print(found.version('feast'))"]).strip()
        print(f"  Feast {version}: feature service, registry in memory; `feast serve {' '.join(map(str, SERVE))}`, one worker")


if __name__ == "__main__":
    main()
