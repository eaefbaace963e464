"""Import a file of payments and apply it: seconds, CPU and memory of each part.

    taskset -c 0 .venv/bin/python benchmarks/ingest.py [FILE]

Without a file it takes what benchmarks/windows.py takes. No peer does the same work: an id index, a contract, quarantine.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import measuring
from windows import PUBLISHED, payments_of

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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.parts[name] = {"seconds": round(wall - self._wall, 2), "cpu": round(cpu - self._cpu, 2), "peak_rss_mb": peak}
        self._wall, self._cpu = time.perf_counter(), time.process_time()


def apply_all(ctx: Context) -> None:
    spec = ctx.specs.get(StreamSpec, "transaction")
    sink = LakeSink(ctx, spec)
    applier = StreamApplier(ctx, spec, [sink])
    while applier.step():
        pass
    sink.flush()


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data")
        ctx = open_context(settings, "bench", system.specs(), clock=RealEventClock())
        watch = Stopwatch()
        rows = ingest(ctx, "transaction", path).rows
        watch.lap("ingest")
        apply_all(ctx)
        watch.lap("apply")
        stored = history(ctx, "transaction")
        watch.lap("history")
        same = log_history(ctx, "transaction").equals(stored)
        watch.lap("log_history")
    print(f"import and application of {rows:,} payments: {stored.height:,} accepted; history from lake and log equal: {same}")
    for name, part in watch.parts.items():
        rate = f"{rows / part['seconds']:>12,.0f} rows/s" if part["seconds"] else ""
        print(f"  {name:<12} {part['seconds']:6.2f} s  cpu {part['cpu']:6.2f} s  peak {part['peak_rss_mb']:5.0f} MB{rate}")
    print(measuring.machine("headrace", "polars", "deltalake", "msgspec"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            given = Path(name) / "payments.parquet"
            columns = ("tx_id", "at", "customer_id", "terminal_id", "amount")
            payments_of(PUBLISHED if PUBLISHED.exists() else None).select(columns).write_parquet(given)
            main(given)
