"""The payments of the story: read or generated, the spending that shifts, the reports, and the events that are broken."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from plan import Plan
from polars.exceptions import PolarsError

from headrace.data.files import read_table
from headrace.kernel.errors import InvalidInput

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
NEEDED = f"a .parquet or .csv file with the columns {', '.join(TYPES)}; is_fraud is true or false"
SPENDERS, FACTOR = 0.6, 2.0
"""From the day of the shift, this share of the customers spends this many times as much."""


def read(path: Path) -> pl.DataFrame:
    """The payments of a Parquet or CSV file, by tx_id. NotFound, or InvalidInput that names what is missing or unfit."""
    if path.suffix not in (".parquet", ".csv"):
        raise InvalidInput(f"`{path}` is neither .parquet nor .csv", hint=NEEDED)
    frame = read_table(path)
    missing = [f"`{name}`" for name in TYPES if name not in frame.columns]
    if missing:
        raise InvalidInput(f"`{path}` has no column {', '.join(missing)}", hint=NEEDED)
    found = frame.select(_typed(path, frame[name], kind) for name, kind in TYPES.items())
    if found["tx_id"].is_duplicated().any():
        raise InvalidInput(f"`{path}`: the column `tx_id` repeats; each payment has its own", hint=NEEDED)
    return found.sort("tx_id")


def _typed(path: Path, column: pl.Series, kind: pl.DataType | type[pl.DataType]) -> pl.Series:
    """The column in the type that the story needs; times without a zone are UTC."""
    try:
        if column.name != "at":
            typed = column.cast(kind)
        elif isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
            typed = column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        else:
            typed = column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    except PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInput(f"`{path}`: the column `{column.name}` is no {kind}: {reason}", hint=NEEDED) from None
    if typed.null_count():
        raise InvalidInput(f"`{path}`: the column `{column.name}` has {typed.null_count()} empty values", hint=NEEDED)
    return typed


def check_frauds(payments: pl.DataFrame, days: Plan) -> None:
    """InvalidInput when the models could not be trained, chosen among or judged: their days have too few frauds. The search
    judges on each of the last three fifths of the training time by what was before."""
    at = payments.filter("is_fraud")["at"]
    trained = at.filter(at.is_between(days.train_from, days.train_to, closed="left"))
    fifths = sorted({(moment - days.train_from) // ((days.train_to - days.train_from) / 5) for moment in trained})
    if len(fifths) < 2 or fifths[-1] < 2:
        _too_few("on several days of the training week", days.train_from, days.train_to)
    if not at.is_between(days.test_from, days.test_to, closed="left").any():
        _too_few("in the test week", days.test_from, days.test_to)


def _too_few(where: str, start: datetime, end: datetime) -> NoReturn:
    raise InvalidInput(
        f"the payments have no frauds {where}, {start:%Y-%m-%d} to {end:%Y-%m-%d}",
        hint="give more payments with `is_fraud`; of generated ones, more --payments or another --seed",
    )


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
