"""Predictions over HTTP from a real `headrace run`, everything on, beside the guide's own service and a bare echo.

    python benchmarks/serving.py [--runs 5] [--seconds 1] [--payments 120000]

Ours reads the windows from state, checks, authenticates by key, routes (a canary is at 5 %), scores, logs and counts every
request; each has a new id. Every 50th answer is compared with the golden one of the version that it names. The guide's
service gets the finished feature row, as ours does at /predict. The load comes from its own process. CPU is that of the
process that answers; `behind` is that of our work process, which reads the predictions for guards, monitoring and the ledger
meanwhile. Each line is the median of the runs (least-most).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fraud_world
import measuring
import polars as pl
from figures import Report, parse, parser, spread
from load import cpu_seconds

from headrace.serving.types import ServiceSpec
from headrace.system.load import load_system

HERE = Path(__file__).resolve().parent
CONNECTIONS = (1, 8, 64)
MOST_PER_SECOND = 15_000
KEEP_EVERY = 50
TRAINED = 30_000
"""Rows that the guide's models are fitted on."""
OURS, OURS_INPUT = "headrace", "headrace /predict"
GUIDE = {"boosting": "guide, boosting", "forest": "guide, forest"}
ECHO = "bare uvicorn echo"


@dataclass
class Side:
    """A server under load: where, with which bodies, and the processes whose CPU counts."""

    port: int
    path: str
    pid: int
    bodies: Path
    headers: tuple[str, ...] = ()
    behind: int | None = None
    keep: int | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)
    found: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    behind_us: dict[int, list[float]] = field(default_factory=dict)

    def drive(self, connections: int, seconds: float, *, once: bool) -> None:
        """One run of the load generator; a failed request ends the benchmark."""
        command = [
            sys.executable, str(HERE / "load.py"), "--port", str(self.port), "--path", self.path, "--pid", str(self.pid),
            "--bodies", str(self.bodies), "--connections", str(connections), "--seconds", str(seconds),
            *(["--once"] if once else []), *([f"--keep={self.keep}"] if self.keep else []),
            *(f"--header={header}" for header in self.headers),
        ]  # fmt: skip
        before = cpu_seconds(self.behind) if self.behind else 0.0
        outcome = measuring.run(command).found
        if outcome["failed"]:
            sys.exit(f"{outcome['failed']} of {outcome['requests']} requests to {self.path} failed: {outcome['failures'][:1]}")
        self.answers += map(json.loads, outcome["kept"])
        self.found.setdefault(connections, []).append(outcome)
        if self.behind:
            spent = cpu_seconds(self.behind) - before
            self.behind_us.setdefault(connections, []).append(spent / outcome["requests"] * 1e6)


def uvicorn(stack: ExitStack, app: str, folder: Path, *flags: str, cwd: Path) -> tuple[int, int]:
    """A uvicorn process: (port, pid)."""
    port = measuring.free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", folder, "--port", port, *flags]
    return port, stack.enter_context(measuring.server(command, port, cwd))


def feature_rows(door: fraud_world.Door, payments: pl.DataFrame, scratch: Path) -> Path:
    """The features of every payment in model order, and `label`."""
    given, reports, out = (scratch / f"{name}.parquet" for name in ("payments", "reports", "features"))
    payments.select(fraud_world.EVENT).write_parquet(given)
    fraud_world.reports(payments).write_parquet(reports)
    door.command(
        "features", "backfill", fraud_world.SYSTEM, "--stream", f"transaction={given}", "--stream", f"fraud_report={reports}",
        "--spine", "transaction", "--order-by", "tx_id", "--out", out,
    )  # fmt: skip
    columns = load_system(str(fraud_world.SYSTEM)).specs().get(ServiceSpec, "scoring").model.features.columns
    rows = pl.read_parquet(out).with_columns(payments["amount"], payments["is_fraud"].alias("label"))
    rows.select(pl.col(*columns, "label").cast(pl.Float64)).write_parquet(out)
    return out


def write_inputs(rows: Path, path: Path, number: int = 2000) -> None:
    """Bodies in the guide's form."""
    sample = pl.read_parquet(rows).drop("label").sample(number, seed=0)
    path.write_text("\n".join(json.dumps({"input": row}) for row in sample.rows()))


def guide(stack: ExitStack, rows: Path, inputs: Path, scratch: Path) -> dict[str, Side | str]:
    """The guide's service with each model, or why it is not measured."""
    sides: dict[str, Side | str] = {}
    sample = scratch / "training.parquet"
    frame = pl.read_parquet(rows)
    frame.sample(min(len(frame), TRAINED), seed=1).write_parquet(sample)
    for kind, name in GUIDE.items():
        folder = scratch / kind
        fitted = measuring.attempt([sys.executable, HERE / "peers/guide_model.py", kind, sample, folder])
        if isinstance(fitted, str):
            sides[name] = f"not measured: {fitted}"
            continue
        try:
            port, pid = uvicorn(stack, "app:app", HERE / "peers/guide", cwd=folder)
        except RuntimeError as error:
            sides[name] = f"not measured: {error}"
            continue
        sides[name] = Side(port, "/predict", pid, inputs)
    return sides


def measure(options: argparse.Namespace, report: Report, scratch: Path, stack: ExitStack) -> None:
    payments = fraud_world.history(options.payments)
    door = stack.enter_context(fraud_world.Door(fraud_world.SYSTEM, scratch / "data"))
    fraud_world.ingest(door, payments, scratch)
    champion, challenger = fraud_world.train(door, payments, versions=2)
    fraud_world.release(door, champion)
    fraud_world.release(door, challenger)
    state = fraud_world.to_canary(door, payments)
    rows, inputs, bodies = feature_rows(door, payments, scratch), scratch / "inputs.ndjson", scratch / "bodies.ndjson"
    write_inputs(rows, inputs)
    key = door.command("keys", "create", "--name", "benchmark", "--role", "service")["key"]
    door.key = door.command("keys", "create", "--name", "reader", "--role", "viewer")["key"]
    ours = Side(
        door.address[1], "/services/scoring/predict", door.serve_pid, bodies, (f"Authorization:Bearer {key}",), door.work_pid,
        keep=KEEP_EVERY,
    )  # fmt: skip
    sides: dict[str, Side | str] = {
        OURS: ours, OURS_INPUT: Side(ours.port, "/predict", ours.pid, inputs, ours.headers, ours.behind),
        **guide(stack, rows, inputs, scratch),
    }  # fmt: skip
    port, pid = uvicorn(stack, "echo:app", HERE / "peers", "--no-access-log", "--log-level=error", cwd=scratch)
    sides[ECHO] = Side(port, "/", pid, inputs)
    report.say(
        f"{payments.height:,} payments in the windows, a rollout in its {state}; runs: {options.runs} of {options.seconds:g} s"
    )
    first = 0
    for _ in range(options.runs):
        for connections in CONNECTIONS:
            for name, side in sides.items():
                if isinstance(side, str):
                    continue
                if name == OURS:
                    number = round(MOST_PER_SECOND * options.seconds)
                    write_bodies(payments, bodies, number, first)
                    first += number
                side.drive(connections, options.seconds, once=name == OURS)
    show(report, sides)
    fraud_world.canary(door)
    by_version = fraud_world.check_answers(door, ours.answers, scratch)
    shares = ", ".join(f"{count} of version {number}" for number, count in sorted(by_version.items()))
    report.say(f"{len(ours.answers):,} answers were compared with the golden ones, all equal: {shares}.")


def write_bodies(payments: pl.DataFrame, path: Path, number: int, first: int) -> None:
    """Requests that were never sent before."""
    path.write_text("\n".join(map(json.dumps, fraud_world.asked(payments, number, first))))


def show(report: Report, sides: dict[str, Side | str]) -> None:
    """A line a side: medians with their spread; `ratio` is our requests a second over theirs."""
    for connections in CONNECTIONS:
        base = median(sides[OURS], connections, "requests_per_s")
        rows = []
        for name, side in sides.items():
            if isinstance(side, str):
                rows.append([name, side])
                continue
            runs = side.found[connections]
            spreads = (
                spread([run[key] for run in runs], digits)
                for key, digits in (("requests_per_s", 0), ("p50_ms", 2), ("p99_ms", 1), ("cpu_us_per_request", 0))
            )
            behind = f"{statistics.median(side.behind_us[connections]):.0f}" if side.behind else "-"
            rows.append([name, *spreads, behind, f"{base / median(side, connections, 'requests_per_s'):.2f}"])
        title = f"{connections} connection{'s' if connections > 1 else ''}"
        report.table([title, "requests/s", "p50 ms", "p99 ms", "CPU us", "behind", "ratio"], rows)
    most = CONNECTIONS[-1]
    report.say(f"The aims are for {most} connections:")
    report.aim("CPU of a request", 80, median(sides[OURS], most, "cpu_us_per_request"), " us")
    report.aim("p99", 10, median(sides[OURS], most, "p99_ms"), " ms")
    ours, given = (median(sides[name], most, "requests_per_s") for name in (OURS, OURS_INPUT))
    for what, rate, name, factor in (
        ("everything on", ours, GUIDE["boosting"], 10), ("everything on", ours, GUIDE["forest"], 60),
        ("features in the body", given, GUIDE["boosting"], 20), ("everything on", ours, ECHO, 0.4),
    ):  # fmt: skip
        if not isinstance(side := sides[name], str):
            report.aim(f"{what}, times {name},", factor, rate / median(side, most, "requests_per_s"), least=True)


def median(side: Side | str, connections: int, key: str) -> float:
    assert not isinstance(side, str)
    return float(statistics.median(run[key] for run in side.found[connections]))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--payments", type=int, default=120_000)
    made.add_argument("--seconds", type=float, default=1.0)
    options = parse(made)
    if options.small:
        options.payments = fraud_world.SMALL
    report = Report("serving", options)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, ExitStack() as stack:
        measure(options, report, Path(folder), stack)
    report.end("headrace", "uvicorn", "uvloop", "httptools", "fastapi", "scikit-learn", "onnxruntime", "numpy")


if __name__ == "__main__":
    main()
