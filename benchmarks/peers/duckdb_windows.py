"""The peer of `benchmarks/windows.py`: the twelve window features in DuckDB. Arguments: PAYMENTS REPORTS OUT."""

from __future__ import annotations

import sys

import duckdb

DAYS = (1, 7, 30)
JUST_BEFORE = "INTERVAL 1 MICROSECOND"


def frame(days: int, delay: int) -> str:
    """(t - delay - days, t - delay]: DuckDB's ranges include both ends."""
    upper = f"INTERVAL {delay} DAY PRECEDING" if delay else "CURRENT ROW"
    return f"RANGE BETWEEN INTERVAL {days + delay} DAY - {JUST_BEFORE} PRECEDING AND {upper}"


def main(payments: str, reports: str, out: str) -> None:
    columns = []
    windows = []
    for days in DAYS:
        columns.append(f"count(*) OVER c{days} AS customer_count_{days}d")
        columns.append(f"avg(amount) OVER c{days} AS customer_mean_amount_{days}d")
        windows.append(f'c{days} AS (PARTITION BY customer_id ORDER BY "at" {frame(days, 0)})')
    for days in DAYS:
        columns.append(f"count(*) OVER t{days} AS terminal_count_{days}d")
        columns.append(f"coalesce(avg(reported) OVER t{days}, 0) AS terminal_risk_{days}d")
        windows.append(f't{days} AS (PARTITION BY terminal_id ORDER BY "at" {frame(days, 7)})')
    duckdb.sql(f"""
        COPY (
          SELECT tx_id, "at", {", ".join(columns)}
          FROM (SELECT p.*, (r.tx_id IS NOT NULL)::INT AS reported
                FROM '{payments}' p LEFT JOIN '{reports}' r ON p.tx_id = r.tx_id)
          WINDOW {", ".join(windows)}
        ) TO '{out}' (FORMAT parquet)
    """)


if __name__ == "__main__":
    main(*sys.argv[1:])
