"""Online reads of ten numbers of 1 and of 100 of 100,000 users: in process and over HTTP, beside Feast.

    python benchmarks/reads.py [--peers] [--runs 5] [--reads 2000]

Ours is read from the state of a real `headrace run`, by the reader that its services use and through its HTTP interface.
`--peers` measures Feast with its SQLite and its Redis store, from the environment that `make bench-peers` makes; the Redis
server is one of its own, that keeps nothing on disk. Each run is a fresh process of each side in turn, but for the servers;
questions are the same, and the answers of the first ones are compared. HTTP is one connection that is kept alive.
`benchmarks/request.py` measures windows of two keys.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fraud_world
import measuring
import numpy as np
import polars as pl
from figures import Report, parse, parser, quantiles, spread

HERE = Path(__file__).resolve().parent
USERS, SMALL, NAMES = 100_000, 2_000, [f"f{number}" for number in range(10)]
READS = {1: 1.0, 100: 0.25}
"""How many users a read is of, and the share of `--reads`."""
OURS, OURS_HTTP = "headrace", "headrace HTTP"
STORES = {"sqlite": "SQLite", "redis": "Redis"}
SERVE = ["--no-access-log", "--max-requests", 1 << 30, "-r", 3600]
"""Flags of Feast's server: no log, no worker replaced meanwhile, the registry read once an hour."""
AIMS = {1: {OURS: 20, OURS_HTTP: 1000}, 100: {OURS: 250, OURS_HTTP: 1000}}
"""The p99 in microseconds."""
Found = dict[str, list[tuple[float, float]]]
"""By side the p50 and p99 of every run in microseconds."""


def users(number: int) -> pl.DataFrame:
    """A row a user, in any order, all of one moment."""
    random = np.random.default_rng(0)
    values = {name: random.random(number) for name in NAMES}
    frame = pl.DataFrame({"id": np.arange(number), "user_id": random.permutation(number), **values})
    return frame.with_columns(at=pl.lit(datetime(2024, 1, 1, tzinfo=UTC)))


def questions(folder: Path, size: int, reads: int, number: int) -> Path:
    """The users of each read."""
    path = folder / f"questions_{size}.json"
    path.write_text(json.dumps(np.random.default_rng(size).integers(0, number, (reads, size)).tolist()))
    return path


class Http:
    """A server that answers questions at a path: `body` makes one of the users of a read."""

    def __init__(self, port: int, path: str, folder: Path, bodies: dict[int, list[Any]]) -> None:
        self.port, self.path, self.sizes = port, path, {}
        for size, asked in bodies.items():
            self.sizes[size] = folder / f"bodies_{port}_{size}.ndjson"
            self.sizes[size].write_text("\n".join(map(json.dumps, asked)))

    def measure(self, size: int) -> tuple[float, float]:
        outcome = measuring.run([
            sys.executable, HERE / "load.py", "--port", self.port, "--path", self.path, "--bodies", self.sizes[size],
            "--connections", 1, "--once",
        ]).found  # fmt: skip
        if outcome["failed"]:
            sys.exit(f"{outcome['failed']} of {outcome['requests']} requests to {self.path} failed: {outcome['failures'][:1]}")
        return outcome["p50_ms"] * 1e3, outcome["p99_ms"] * 1e3


class Reads:
    """Every side, ready to be asked."""

    def __init__(self, folder: Path, reads: int, number: int) -> None:
        self.folder, self.number = folder, number
        self.table = folder / "users.parquet"
        users(number).write_parquet(self.table)
        self.asked = {size: questions(folder, size, round(reads * share), number) for size, share in READS.items()}
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
        python, program = measuring.peer("feast"), measuring.peer("feast", "feast")
        folder = self.folder / kind
        folder.mkdir()
        port = measuring.free_port()
        if kind == "redis":
            flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            stack.enter_context(measuring.server(["redis-server", "--port", port, "--dir", folder, *flags], port))
        script = HERE / "peers/feast_reads.py"
        measuring.run([python, script, "load", folder, self.table, kind, port])
        self.commands[f"Feast, {STORES[kind]}"] = [python, script, "read", folder]
        http = measuring.free_port()
        stack.enter_context(measuring.server([program, "-c", folder, "serve", "-p", http, *SERVE], http))
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
                    answer = measuring.run([*command, self.asked[size]]).found
                    expected = expected or answer["answers"]
                    if answer["answers"] != expected:
                        sys.exit(f"{name} answers otherwise than {OURS}")
                    sides.setdefault(name, []).append(quantiles(answer["taken"]))
                for name, http in self.http.items():
                    sides.setdefault(name, []).append(http.measure(size))
        return found


def not_measured(kind: str, peers: bool) -> str | None:
    """Why a peer is not measured."""
    if not peers:
        return "without `--peers`"
    if isinstance(reason := measuring.peer("feast"), str):
        return reason
    return "there is no redis-server" if kind == "redis" and shutil.which("redis-server") is None else None


def show(report: Report, sides: Reads, runs: int) -> None:
    for size, found in sides.measure(runs).items():
        report.say(f"{size} of {sides.number:,} users, {len(NAMES)} numbers each, microseconds a read; runs: {runs}")
        median = {
            name: [statistics.median(run[place] for run in several) for place in (0, 1)] for name, several in found.items()
        }
        rows = []
        for name, several in found.items():
            spreads = (spread([run[place] for run in several], 1) for place in (0, 1))
            ours = median[OURS_HTTP if "HTTP" in name else OURS]
            rows.append([name, *spreads, *(f"{median[name][place] / ours[place]:.1f}" for place in (0, 1))])
        rows += [[name, f"not measured: {reason}"] for name, reason in sides.missing.items()]
        report.table(["", "p50", "p99", "x ours, p50", "x ours, p99"], rows)
        for name, aim in AIMS[size].items():
            report.aim(f"p99 of {name}, {size},", aim, median[name][1], " us")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--peers", action="store_true")
    made.add_argument("--reads", type=int, default=2000)
    options = parse(made)
    number = SMALL if options.small else USERS
    if options.small:
        options.reads = 200
    report, versions = Report("reads", options), ""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, ExitStack() as stack:
        sides = Reads(Path(folder), options.reads, number)
        sides.ours(stack)
        for kind, store in STORES.items():
            reason = not_measured(kind, options.peers)
            if reason is None:
                sides.feast(kind, stack)
            else:
                sides.missing[f"Feast, {store}"] = reason
        show(report, sides, options.runs)
    python = measuring.peer("feast")
    if options.peers and not isinstance(python, str):
        versions = f"{measuring.versions_of(python, 'feast', 'redis')}, `feast serve {' '.join(map(str, SERVE))}` of one worker"
        if program := shutil.which("redis-server"):
            versions += f", {' '.join(measuring.run([program, '--version']).printed.split()[:3])}"
    report.end("headrace", "numpy", "lmdb", peers=versions)


if __name__ == "__main__":
    main()
