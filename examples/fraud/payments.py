"""The payments of the story: read or generated, the spending that shifts, the reports, and the events that are broken."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TYPES = {
    "tx_id": pl.Int64,
    "at": pl.Datetime("us", "UTC"),
    "customer_id": pl.Int64,
    "terminal_id": pl.Int64,
    "amount": pl.Float64,
    "is_fraud": pl.Boolean,
}
EVENT = ["tx_id", "at", "customer_id", "terminal_id", "amount"]
REPORTED_AFTER = timedelta(days=7)
SPENDERS, FACTOR = 0.6, 2.0
"""From the day of the shift, this share of the customers spends this many times as much."""


def read(path: Path) -> pl.DataFrame:
    """The payments of a Parquet or CSV file, by tx_id. ValueError names what is missing."""
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"`{path.name}` is neither .parquet nor .csv")
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, try_parse_dates=True)
    missing = [name for name in TYPES if name not in frame.columns]
    if missing:
        raise ValueError(f"`{path.name}` has no column `{missing[0]}`; needed: {', '.join(TYPES)}")
    at = pl.col("at")
    aware = isinstance(frame.schema["at"], pl.Datetime) and frame.schema["at"].time_zone is not None
    frame = frame.with_columns(
        at.dt.convert_time_zone("UTC") if aware else at.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in TYPES.items()).sort("tx_id")


def shifted(payments: pl.DataFrame, since: datetime, seed: int) -> pl.DataFrame:
    """The same payments, where from `since` on SPENDERS of the customers spend FACTOR times as much."""
    customers = payments["customer_id"].unique().sort().to_numpy()
    random = np.random.default_rng([seed, 1])
    spenders = pl.Series(random.choice(customers, round(SPENDERS * len(customers)), replace=False))
    spends = (pl.col("at") >= since) & pl.col("customer_id").is_in(spenders.implode())
    return payments.with_columns(pl.when(spends).then((pl.col("amount") * FACTOR).round(2)).otherwise("amount").alias("amount"))


def reports(payments: pl.DataFrame) -> pl.DataFrame:
    """What the card's owner reports: tx_id and at, 7 days after each fraud."""
    return payments.filter("is_fraud").select("tx_id", pl.col("at") + REPORTED_AFTER).sort("at", "tx_id")


def lines(frame: pl.DataFrame) -> list[bytes]:
    """Each row as a JSON object, its time as RFC 3339."""
    text = frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_ndjson()
    return text.encode().splitlines()


def broken(earlier: pl.DataFrame, number: int, first_id: int, seed: int) -> list[bytes]:
    """`number` events that must not pass, of six kinds: wrong type, negative amount, missing key, the id of an earlier
    payment with other content, the year 3000, truncated JSON. Other ids count from `first_id`."""
    sample = earlier.select(EVENT).sample(number, seed=seed, shuffle=True)
    found = []
    for index, line in enumerate(lines(sample)):
        event: dict[str, Any] = json.loads(line)
        kind = index % 6
        if kind != 3:
            event["tx_id"] = first_id + index
        if kind == 0:
            event["amount"] = "a lot"
        elif kind == 1:
            event["amount"] = -event["amount"] - 1
        elif kind == 2:
            del event["customer_id"]
        elif kind == 3:
            event["amount"] = round(event["amount"] + 1, 2)
        elif kind == 4:
            event["at"] = "3000" + event["at"][4:]
        text = json.dumps(event).encode()
        found.append(text[:-9] if kind == 5 else text)
    return found
