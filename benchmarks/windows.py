"""The twelve published window features: `headrace features backfill` against DuckDB, cold, on the same unsorted files.

    python benchmarks/windows.py [--transactions PATH] [--runs 5]

Without --transactions it takes ../shared/data/fraud/transactions.parquet where that exists, else 500,000 payments of
the example's generator. The answers are compared: only rows of a customer with two payments in the same second may
differ, since to DuckDB's RANGE they see each other.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import measuring
import polars as pl
from figures import PROCESSES, Report, parse, parser, process_row
from measuring import HEADRACE, ROOT

PUBLISHED = ROOT.parent / "shared/data/fraud/transactions.parquet"


SMALL = 20_000
OURS = "headrace"
AIM_SECONDS = 1.5


def payments_of(path: Path | None = None, *, small: bool = False) -> pl.DataFrame:
    """tx_id, at, customer_id, terminal_id, amount, is_fraud, in no order: those of the file, of the published one, or our
    own."""
    path = path or (PUBLISHED if PUBLISHED.exists() and not small else None)
    if path is not None:
        return pl.read_parquet(path)
    sys.path.insert(0, str(ROOT / "examples/fraud"))
    from generator import generate

    return generate(SMALL if small else 500_000, seed=0).sample(fraction=1.0, shuffle=True, seed=0)


def write_inputs(payments: pl.DataFrame, folder: Path) -> tuple[Path, Path]:
    """The payments without labels, and the reports 7 days after each fraud."""
    given, reports = folder / "payments.parquet", folder / "reports.parquet"
    payments.select("tx_id", "at", "customer_id", "terminal_id", "amount").write_parquet(given)
    frauds = payments.filter(pl.col("is_fraud").cast(pl.Boolean))
    frauds.select("tx_id", pl.col("at") + pl.duration(days=7)).write_parquet(reports)
    return given, reports


def hostile(payments: pl.DataFrame) -> pl.DataFrame:
    """One customer and one terminal get 5 % of all rows each; the rows are shuffled."""
    heavy = pl.int_range(pl.len()).shuffle(seed=1) < pl.len() // 20
    return payments.with_columns(
        pl.when(heavy).then(0).otherwise(pl.col("customer_id")).alias("customer_id"),
        pl.when(heavy.shuffle(seed=2)).then(0).otherwise(pl.col("terminal_id")).alias("terminal_id"),
    ).sample(fraction=1.0, shuffle=True, seed=3)


def different_rows(ours: Path, theirs: Path, payments: pl.DataFrame) -> tuple[int, int]:
    """Rows with any different value, and those of them that no tie of (customer, second) explains."""
    left, right = pl.read_parquet(ours), pl.read_parquet(theirs).sort("tx_id")  # ours: in the order of tx_id
    assert left["at"].equals(right["at"]), "the two sides have different rows"
    columns = [c for c in right.columns if c not in ("tx_id", "at")]
    close = pl.DataFrame([((left[c].fill_null(0) - right[c]).abs() < 1e-6).alias(c) for c in columns])
    bad = ~close.select(same=pl.all_horizontal(columns))["same"]
    tied = payments.sort("tx_id").select(
        tied=pl.struct("customer_id", "at").is_duplicated() | pl.struct("terminal_id", "at").is_duplicated()
    )
    return int(bad.sum()), int((bad & ~tied["tied"]).sum())


def compare(report: Report, title: str, payments: pl.DataFrame, runs: int) -> float:
    """Our median, in seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given, reports = write_inputs(payments, folder)
        ours, theirs = folder / "ours.parquet", folder / "theirs.parquet"
        backfill = [
            HEADRACE, "features", "backfill", str(ROOT / "examples/fraud/system.py"),
            "--stream", f"transaction={given}", "--stream", f"fraud_report={reports}", "--spine", "transaction",
            "--order-by", "tx_id", "--features", "customer,terminal", "--out", str(ours), "--json",
        ]  # fmt: skip
        duckdb = [sys.executable, str(ROOT / "benchmarks/peers/duckdb_windows.py"), str(given), str(reports), str(theirs)]
        measured = measuring.alternate({OURS: backfill, "DuckDB": duckdb}, OURS, runs=runs)
        mine = measured[OURS]
        assert not isinstance(mine, str)
        report.say(f"12 window features over {payments.height:,} payments, {title}:")
        report.table(PROCESSES, [process_row(side, found, mine) for side, found in measured.items()])
        if not isinstance(measured["DuckDB"], str):
            different, unexplained = different_rows(ours, theirs, payments)
            report.say(f"Rows that differ: {different:,}, of which no equal (key, second) explains {unexplained:,}.")
            if unexplained:
                sys.exit("the two sides have different values")
    return statistics.median(run.seconds for run in mine)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--transactions", type=Path, metavar="FILE")
    options = parse(made)
    report = Report("windows", options)
    payments = payments_of(options.transactions, small=options.small)
    median = compare(report, "friendly", payments, options.runs)
    if not options.small:
        report.aim("a median of friendly data", AIM_SECONDS, median, " s")
    compare(report, "hostile: one customer and one terminal with 5 % of the rows each", hostile(payments), options.runs)
    report.end("headrace", "polars", "numpy", "duckdb")


if __name__ == "__main__":
    main()
