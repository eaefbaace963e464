"""Backfill of more events than fit into memory: `headrace features backfill` of the twelve published window features.

    python benchmarks/large.py [--events 100000000] [--memory 6GB] [--folder DIR] [--keyless]

Writes the payments (unsorted but for --in-order, 1 % reported as fraud 7 days later) into DIR, by default a temporary
folder of the working directory, runs the command, and prints the time, the peak memory of all its processes, and the most
that it had on disk. 1e8 events need some 35 GB of disk. `--keyless`: the features of all payments together instead,
of `benchmarks/keyless_system.py`, which no key parts, the payments in order of their time: a late event makes every window
that it is in be gathered, and here that would be all of them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import measuring
import numpy as np
import polars as pl
from figures import Report, parse, parser
from measuring import HEADRACE, ROOT

DAYS = 180
EPOCH = 20_000 * 86_400_000_000
PART = 4_000_000
"""Rows that are generated at once."""
SMALL = 100_000


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


class Disk:
    """The most that the folder held beside what was there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = size_of(folder)
        self.peak_gb = 0.0

    def __call__(self) -> bool:
        self.peak_gb = max(self.peak_gb, (size_of(self._folder) - self._before) / 1e9)
        return False


def size_of(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def main() -> None:
    made = parser(__doc__, runs=1)
    made.add_argument("--events", type=int, default=100_000_000)
    made.add_argument("--memory", default="6GB")
    made.add_argument("--folder", type=Path)
    made.add_argument("--in-order", action="store_true")
    made.add_argument("--keyless", action="store_true")
    options = parse(made)
    if options.small:
        options.events = SMALL
    report = Report("large, keyless" if options.keyless else "large", options)
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
            HEADRACE, "features", "backfill", str(ROOT / system), "--stream", f"transaction={given}", *more,
            "--spine", "transaction", "--order-by", order_by, "--features", features, "--memory", options.memory,
            "--out", str(folder / "features.parquet"), "--json",
        ]  # fmt: skip
        rows = []
        for _ in range(options.runs):
            disk = Disk(folder)
            found = measuring.run(command, watch=disk)
            measuring.progress(f"{found.seconds:.0f} s")
            rows.append([
                f"{options.events:,}", options.memory, f"{found.seconds:,.1f}", f"{found.cpu_seconds:,.1f}",
                f"{options.events / found.seconds:,.0f}", f"{found.peak_mb:,.0f}", f"{disk.peak_gb:.1f}",
            ])  # fmt: skip
        report.table(["events", "`--memory`", "seconds", "CPU s", "events/s", "peak MB", "GB of disk beside the input"], rows)
        report.end("headrace", "polars", "numpy")
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
