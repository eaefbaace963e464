"""Import a file of payments and apply it: seconds, CPU and memory of each part.

    python benchmarks/ingest.py [FILE] [--runs 5]

Without a file it takes what benchmarks/windows.py takes; each run is a process of its own. No peer does the same work: an id
index, a contract, quarantine.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import measuring
import polars as pl
from figures import Report, parse, parser, spread
from windows import payments_of

import headrace as hr
import headrace.app.tables
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.ingest import ingest
from headrace.data.lake_sink import LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings

system = hr.System("bench")


@system.stream(id="tx_id", key="customer_id", time="at")
class Transaction:
    tx_id: int
    at: datetime
    customer_id: int
    terminal_id: int
    amount: Annotated[float, hr.Range(min=0)]


class Stopwatch:
    """Wall and CPU seconds of each named part, and the peak memory after it."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        self.parts[name] = {"seconds": wall - self._wall, "cpu": cpu - self._cpu, "peak_mb": peak}
        self._wall, self._cpu = time.perf_counter(), time.process_time()


def apply_all(ctx: Context) -> None:
    spec = ctx.specs.get(StreamSpec, "transaction")
    sink = LakeSink(ctx, spec)
    applier = StreamApplier(ctx, spec, [sink])
    while applier.step():
        pass
    sink.flush()


def once(path: Path) -> dict[str, dict[str, float]]:
    """Every part of one run, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data")
        ctx = open_context(settings, "bench", system.specs(), clock=RealEventClock())
        watch = Stopwatch()
        rows = ingest(ctx, "transaction", path).rows
        watch.lap("ingest into the log")
        apply_all(ctx)
        watch.lap("apply to the lake")
        stored = history(ctx, "transaction")
        watch.lap("history from the lake")
        logged = log_history(ctx, "transaction")
        watch.lap("history from the log alone")
        if stored.height != rows or not logged.equals(stored):
            sys.exit(f"of {rows:,} payments {stored.height:,} are in the lake; as in the log: {logged.equals(stored)}")
        ctx.close()
    return watch.parts


def measure(report: Report, path: Path, runs: int) -> None:
    found = []
    for _ in range(runs):
        found.append(measuring.run([sys.executable, __file__, path, "--once"]).found)
        measuring.progress(", ".join(f"{name} {part['seconds']:.1f} s" for name, part in found[-1].items()))
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    report.say(f"{rows:,} payments; history from the lake and from the log were equal; runs: {runs}")
    lines = []
    for name in found[0]:
        seconds, cpu, peaks = ([run[name][key] for run in found] for key in ("seconds", "cpu", "peak_mb"))
        rate = f"{rows / statistics.median(seconds):,.0f}"
        lines.append([name, spread(seconds), spread(cpu), f"{max(peaks):,.0f}", rate])
    report.table(["", "seconds", "CPU s", "peak MB until then", "rows/s"], lines)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("file", type=Path, nargs="?")
    made.add_argument("--once", action="store_true", help="one run, in this process, as JSON")
    options = parse(made)
    if options.once:
        print(json.dumps(once(options.file)))
        return
    report = Report("ingest", options)
    with tempfile.TemporaryDirectory() as name:
        given = Path(name) / "payments.parquet"
        columns = ("tx_id", "at", "customer_id", "terminal_id", "amount")
        payments_of(options.file, small=options.small).select(columns).write_parquet(given)
        measure(report, given, options.runs)
    report.end("headrace", "polars", "deltalake", "msgspec")


if __name__ == "__main__":
    main()
