"""Backfill of more events than fit into memory: `headrace features backfill` of the twelve published window features.

    python benchmarks/large.py [--events 100000000] [--memory 6GB] [--folder DIR] [--keyless]

Writes the payments (unsorted but for --in-order, 1 % reported as fraud 7 days later) into DIR, by default a temporary
folder of the working directory, runs the command once, and prints the time, the peak memory of all its processes, and the
most that it had on disk. 1e8 events need some 35 GB of disk. `--keyless`: the features of all payments together instead,
of `benchmarks/keyless_system.py`, which no key parts, the payments in order of their time: a late event makes every window
that it is in be gathered, and here that would be all of them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring
import numpy as np
import polars as pl
import psutil

ROOT = Path(__file__).resolve().parent.parent
DAYS = 180
EPOCH = 20_000 * 86_400_000_000
PART = 4_000_000
"""Rows that are generated at once."""


def write_payments(folder: Path, events: int, *, in_order: bool) -> tuple[Path, Path]:
    """Payments of events / 350 customers at events / 175 terminals over half a year, and their reports."""
    given, reports = folder / "payments.parquet", folder / "reports.parquet"
    parts, frauds = [], []
    for number, first in enumerate(range(0, events, PART)):
        random = np.random.default_rng(number)
        count = min(PART, events - first)
        ids = np.arange(first, first + count)
        span = DAYS * 86_400_000_000
        at = (ids * (span // events)) + random.integers(0, 60_000_000, count)
        frame = pl.DataFrame(
            {"tx_id": ids, "at": pl.Series(at + EPOCH).cast(pl.Datetime("us", "UTC")),
             "customer_id": random.integers(0, max(events // 350, 1), count),
             "terminal_id": random.integers(0, max(events // 175, 1), count), "amount": random.gamma(2.0, 25.0, count).round(2)}
        )  # fmt: skip
        frauds.append(frame.filter(pl.Series(random.random(count) < 0.01)).select("tx_id", pl.col("at") + pl.duration(days=7)))
        parts.append(folder / f"part-{number}.parquet")
        (frame if in_order else frame.sample(fraction=1.0, shuffle=True, seed=number)).write_parquet(parts[-1])
    order = parts if in_order else [parts[i] for i in np.random.default_rng(0).permutation(len(parts))]
    pl.scan_parquet(order).sink_parquet(given)
    pl.concat(frauds).sort("at").write_parquet(reports)
    for part in parts:
        part.unlink()
    return given, reports


def watched(command: list[str], folder: Path) -> tuple[float, float, float]:
    """(seconds, peak GB of memory of the process and its children, peak GB on disk beside what was there)."""
    before = size_of(folder)
    started = time.perf_counter()
    with subprocess.Popen(command) as process:
        parent = psutil.Process(process.pid)
        memory = disk = 0.0
        while process.poll() is None:
            try:
                found = [parent, *parent.children(recursive=True)]
                memory = max(memory, sum(one.memory_info().rss for one in found))
            except psutil.NoSuchProcess:
                pass
            disk = max(disk, size_of(folder) - before)
            time.sleep(0.25)
    if process.returncode:
        sys.exit(f"`{' '.join(command)}` ended with {process.returncode}")
    return time.perf_counter() - started, memory / 1e9, disk / 1e9


def size_of(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--memory", default="6GB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--in-order", action="store_true")
    parser.add_argument("--keyless", action="store_true")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="large-", dir="."))
    folder.mkdir(exist_ok=True)
    try:
        given, reports = folder / "payments.parquet", folder / "reports.parquet"
        if not reports.exists():
            given, reports = write_payments(folder, options.events, in_order=options.in_order)
        chosen = ["examples/fraud/system.py", "tx_id", "customer,terminal", "--stream", f"fraud_report={reports}"]
        if options.keyless:
            chosen = ["benchmarks/keyless_system.py", "at", "every,counted,newest"]
        system, order_by, features, *more = chosen
        command = [
            str(Path(sys.executable).with_name("headrace")), "features", "backfill", str(ROOT / system),
            "--stream", f"transaction={given}", *more, "--spine", "transaction", "--order-by", order_by,
            "--features", features, "--memory", options.memory, "--out", str(folder / "features.parquet"), "--json",
        ]  # fmt: skip
        print(" ".join(command), flush=True)
        seconds, memory, disk = watched(command, folder)
        print(
            f"{options.events:,} events, --memory {options.memory}: {seconds:.1f} s, {options.events / seconds:,.0f} events/s,"
        )
        print(f"  peak {memory:.2f} GB of memory in all processes, {disk:.1f} GB of disk beside the input")
        print(measuring.machine("headrace", "polars", "numpy"))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
