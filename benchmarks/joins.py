"""The point-in-time join: `headrace features join` against DuckDB's ASOF join and Feast, cold, on the same unsorted files.

    python benchmarks/joins.py [--rows 1000000] [--runs 5] [--peers] [--friendly] [--limit SECONDS]
    python benchmarks/joins.py --scaling

1,000,000 labels are joined with 3 views of `--rows` rows each, 4 float32 columns, 100,000 users, 30 days of TTL; of equal
event times the last created counts. Friendly tables, and hostile ones (`benchmarks/join_tables.py`). All sides write the
labels with 12 columns as Parquet; ours alone keeps their order. With --peers Feast runs, in its own environment: its DuckDB
store, and once its default one. `--limit` stops a run after so many seconds of CPU time. The answers are compared, labels
that are lost counted. `as known` is ours without what was created after the label's time, which DuckDB's join cannot ask.

With --scaling only ours, once, by the number of rows: this join, and `headrace features backfill` of twelve windows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import measuring
import polars as pl
from join_tables import COLUMNS, VIEWS, write_spec, write_tables
from large import write_payments

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks/peers"
HEADRACE = str(Path(sys.executable).with_name("headrace"))
LABELS = 1_000_000
SIZES = (100_000, 1_000_000, 10_000_000)
STORES = {"Feast, duckdb store": "duckdb", "Feast, default store": "dask"}
QUADRATIC = "it pairs each label with every row of its key: some 1e10 pairs"


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


def differences(mine: Path, theirs: Path) -> str:
    """How many labels the other side lost, and how many of the others have any different value."""
    columns = [f"{view}__value_{number}" for view in VIEWS for number in range(COLUMNS)]
    left, right = (pl.read_parquet(path, columns=["id", *columns]) for path in (mine, theirs))
    both = left.join(right, on="id", how="inner", suffix="_other")
    other = (pl.col(f"{name}_other").cast(pl.Float32).fill_nan(None) for name in columns)
    different = both.select(pl.any_horizontal(pl.col(n).ne_missing(o) for n, o in zip(columns, other, strict=True)))
    return f"{len(left) - right['id'].n_unique():,} labels lost, {int(different.to_series().sum()):,} of the rest differ"


def compare(rows: int, options: argparse.Namespace, *, hostile: bool) -> None:
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_tables(folder, labels=LABELS, rows=rows, hostile=hostile)
        spec, known = (write_spec(folder, hostile=hostile, as_known=as_known) for as_known in (False, True))
        outs = {side: folder / f"{number}.parquet" for number, side in enumerate(("headrace", "DuckDB ASOF", *STORES))}
        duckdb = [sys.executable, str(PEERS / "duckdb_join.py"), str(spec), str(outs["DuckDB ASOF"])]
        sides: dict[str, list[str] | str] = {
            "headrace": ours(spec, outs["headrace"]),
            "headrace, as known": ours(known, folder / "known.parquet"),
            "DuckDB ASOF": duckdb,
        }
        for side, store in STORES.items() if options.peers else ():
            pairs = store == "dask" and (hostile or rows > LABELS)
            sides[side] = QUADRATIC if pairs else feast(folder, spec, store, outs[side])
        measured = measuring.alternate(sides, runs=options.runs, once=["Feast, default store"], limit=options.limit)
        title = "two text keys, Zipf, late rows" if hostile else "one integer key"
        measuring.show(f"{LABELS:,} labels x {len(VIEWS)} views of {rows:,} rows, {title}", measured, "headrace")
        show_differences(measured, outs)


def show_differences(measured: Mapping[str, measuring.Measured], outs: Mapping[str, Path]) -> None:
    for side, out in outs.items():
        if side != "headrace" and not isinstance(measured.get(side, ""), str):
            print(f"  {side}: {differences(outs['headrace'], out)}", flush=True)


def scaling(options: argparse.Namespace) -> None:
    print("\nscaling, one run each: rows, seconds, CPU seconds, peak memory of the one process")
    for rows in SIZES:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_tables(folder, labels=rows // 10, rows=rows, hostile=False)
            spec = write_spec(folder, hostile=False, as_known=True)
            line(f"join of {rows // 10:,} labels x 3 x {rows:,}", ours(spec, folder / "out.parquet"))
    for rows in SIZES:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            given, reports = write_payments(folder, rows, in_order=False)
            command = [
                HEADRACE, "features", "backfill", str(ROOT / "examples/fraud/system.py"), "--stream", f"transaction={given}",
                "--stream", f"fraud_report={reports}", "--spine", "transaction", "--order-by", "tx_id",
                "--features", "customer,terminal", "--memory", "60GB", "--out", str(folder / "out.parquet"), "--json",
            ]  # fmt: skip
            line(f"backfill of {rows:,} payments", command)


def line(title: str, command: list[str]) -> None:
    found = measuring.run(command)
    assert not isinstance(found, str)
    print(f"  {title:<42} {found.seconds:7.2f} s  cpu {found.cpu_seconds:7.2f} s  peak {found.peak_mb:6.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=LABELS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--friendly", action="store_true", help="only friendly tables")
    parser.add_argument("--folder", type=Path, help="for the tables, some GB of them [the temporary folder]")
    options = parser.parse_args()
    if options.scaling:
        scaling(options)
    else:
        for hostile in (False,) if options.friendly else (False, True):
            compare(options.rows, options, hostile=hostile)
        feast_python = measuring.peer("feast")
        if options.peers and not isinstance(feast_python, str):
            asked = "from importlib.metadata import version as v; print('  Feast', v('feast'), 'with DuckDB', v('duckdb'))"
            subprocess.run([str(feast_python), "-c", asked], check=True)
    print(measuring.machine("headrace", "polars", "numpy", "duckdb"))
    print(f"  all sides with their defaults, on every core; load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
