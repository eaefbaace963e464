"""The point-in-time join: `headrace features join` against DuckDB's ASOF join and Feast, cold, on the same unsorted files.

    python benchmarks/joins.py [--rows 1000000] [--runs 5] [--peers] [--friendly]
    python benchmarks/joins.py --scaling

1,000,000 labels are joined with 3 views of `--rows` rows each, 4 float32 columns, 100,000 users, 30 days of TTL; of equal
event times the last created counts. Friendly tables, and hostile ones (`benchmarks/join_tables.py`). All sides write the
labels with 12 columns as Parquet; ours alone keeps their order. With --peers Feast runs, in its own environment: its DuckDB
store, and twice its default one, which pairs each label with every row of its key. A peer that takes longer than `--limit`
seconds or more than `--memory` GB, by default 85 % of the machine's, is stopped and not measured. The answers are compared,
labels that are lost counted. `as known` is ours without what was created after the label's time, which DuckDB's join cannot
ask.

With --scaling only ours, by the number of rows: this join, and `headrace features backfill` of twelve windows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import measuring
import polars as pl
from figures import PROCESSES, Report, parse, parser, process_row, spread
from join_tables import COLUMNS, VIEWS, write_spec, write_tables
from large import write_payments
from measuring import HEADRACE, ROOT

PEERS = ROOT / "benchmarks/peers"
LABELS, SMALL = 1_000_000, 20_000
SIZES = (100_000, 1_000_000, 10_000_000)
OURS, KNOWN, DUCKDB = "headrace", "headrace, as known", "DuckDB ASOF"
STORES = {"Feast, DuckDB store": "duckdb", "Feast, default store": "dask"}
DEFAULT_RUNS, DEFAULT_ROWS = 2, 1_000_000
"""Of Feast's default store; with views of more rows, where it takes minutes, it runs once."""
MACHINE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
"""Memory; DuckDB takes 80 % of it before it writes to disk."""
AIMS = {1_000_000: 1.5, 10_000_000: 6.0}
"""Seconds, by the rows of each view."""


def ours(spec: Path, out: Path) -> list[str]:
    return [HEADRACE, "features", "join", "--spec", str(spec), "--out", str(out), "--json"]


def feast(folder: Path, spec: Path, store: str, out: Path) -> list[str] | str:
    """The command of one offline store, registered before it is measured, or why there is none."""
    python = measuring.peer("feast")
    if isinstance(python, str):
        return python
    command, repo = [str(python), "-W", "ignore", str(PEERS / "feast_join.py")], folder / f"feast-{store}"
    subprocess.run([*command, "apply", str(spec), str(repo), store], check=True, capture_output=True)
    return [*command, "join", str(spec), str(repo), str(out)]


def differences(mine: Path, theirs: Path) -> list[str]:
    """How many labels the other side lost, and how many of the others have any different value."""
    columns = [f"{view}__value_{number}" for view in VIEWS for number in range(COLUMNS)]
    left, right = (pl.read_parquet(path, columns=["id", *columns]) for path in (mine, theirs))
    both = left.join(right, on="id", how="inner", suffix="_other")
    other = (pl.col(f"{name}_other").cast(pl.Float32).fill_nan(None) for name in columns)
    different = both.select(pl.any_horizontal(pl.col(n).ne_missing(o) for n, o in zip(columns, other, strict=True)))
    return [f"{len(left) - right['id'].n_unique():,}", f"{int(different.to_series().sum()):,}"]


def compare(options: argparse.Namespace, report: Report, *, hostile: bool) -> None:
    labels = SMALL if options.small else LABELS
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name).resolve()
        write_tables(folder, labels=labels, rows=options.rows, hostile=hostile)
        spec, known = (write_spec(folder, hostile=hostile, as_known=as_known) for as_known in (False, True))
        outs = {side: folder / f"{number}.parquet" for number, side in enumerate((OURS, DUCKDB, *STORES))}
        sides: dict[str, list[str] | str] = {
            OURS: ours(spec, outs[OURS]),
            KNOWN: ours(known, folder / "known.parquet"),
            DUCKDB: [sys.executable, str(PEERS / "duckdb_join.py"), str(spec), str(outs[DUCKDB])],
        }
        for side, store in STORES.items():
            sides[side] = feast(folder, spec, store, outs[side]) if options.peers else "without `--peers`"
        limits = measuring.Limits(options.limit, options.memory * 1e3, folder=folder)  # (DuckDB leaves .tmp when it is killed)
        often = DEFAULT_RUNS if options.rows <= DEFAULT_ROWS else 1
        fewer = {side: often for side, store in STORES.items() if store == "dask"}
        measured = measuring.alternate(sides, OURS, runs=options.runs, limits=limits, fewer=fewer)
        kind = "hostile: two text keys, Zipf, late rows" if hostile else "friendly: one integer key"
        report.say(f"{labels:,} labels, {len(VIEWS)} views of {options.rows:,} rows, {kind}:")
        show(report, measured, outs)
        mine = measured[OURS]
        if labels == LABELS and options.rows in AIMS and not hostile and not isinstance(mine, str):
            report.aim("a median of friendly data", AIMS[options.rows], statistics.median(run.seconds for run in mine), " s")


def show(report: Report, measured: Mapping[str, measuring.Measured], outs: Mapping[str, Path]) -> None:
    rows, base = [], measured[OURS]
    assert not isinstance(base, str)
    for side, runs in measured.items():
        row = process_row(side, runs, base)
        if not isinstance(runs, str):
            row += differences(outs[OURS], outs[side]) if side in outs and side != OURS else ["", ""]
        rows.append(row)
    report.table([*PROCESSES, "labels lost", "others that differ"], rows)


def scaling(options: argparse.Namespace, report: Report) -> None:
    """Ours by the number of rows."""
    report.say("The labels are a tenth of the rows of each of the three views; the payments as many as the rows:")
    found = []
    for rows in SIZES[:1] if options.small else SIZES:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_tables(folder, labels=rows // 10, rows=rows, hostile=False)
            spec = write_spec(folder, hostile=False, as_known=True)
            join = ours(spec, folder / "out.parquet")
            payments, reports = write_payments(folder, rows, in_order=False)
            backfill = [
                HEADRACE, "features", "backfill", str(ROOT / "examples/fraud/system.py"),
                "--stream", f"transaction={payments}", "--stream", f"fraud_report={reports}", "--spine", "transaction",
                "--order-by", "tx_id", "--features", "customer,terminal", "--out", str(folder / "out.parquet"), "--json",
            ]  # fmt: skip
            sides = {f"join, {rows:,}": join, f"backfill of twelve windows, {rows:,}": backfill}
            for side, runs in measuring.alternate(sides, "", runs=options.runs).items():
                if isinstance(runs, str):
                    sys.exit(f"{side}: {runs}")
                peak = f"{max(run.peak_mb for run in runs):,.0f}"
                cells = [spread([run.seconds for run in runs]), spread([run.cpu_seconds for run in runs]), peak, str(len(runs))]
                found.append([side, *cells])
    report.table(PROCESSES[:5], found)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=LABELS)
    made.add_argument("--limit", type=float, default=600, metavar="SECONDS")
    made.add_argument("--memory", type=float, default=round(MACHINE_GB * 0.85, 1), metavar="GB")
    made.add_argument("--peers", action="store_true", help="Feast, too")
    made.add_argument("--scaling", action="store_true")
    made.add_argument("--friendly", action="store_true", help="only friendly tables")
    made.add_argument("--folder", type=Path, help="for the tables, some GB of them [the temporary folder]")
    options = parse(made)
    name = "joins" if options.rows == LABELS else f"joins of {options.rows:,}"
    if options.small:
        options.rows = SMALL
    report = Report("scaling" if options.scaling else name, options)
    if options.scaling:
        scaling(options, report)
    else:
        for hostile in (False,) if options.friendly else (False, True):
            compare(options, report, hostile=hostile)
    python = measuring.peer("feast")
    theirs = "" if isinstance(python, str) or not options.peers else measuring.versions_of(python, "feast", "duckdb") + " below"
    report.end("headrace", "polars", "numpy", "duckdb", peers=theirs)


if __name__ == "__main__":
    main()
