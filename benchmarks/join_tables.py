"""Tables for the point-in-time join: labels and feature views over 90 days, unsorted, as Parquet.

Of the rows of a view 2 % share key and event time with another one and differ in `created` and values, so that ties matter.
Hostile tables have two text keys, distributed by Zipf 1.1 without its two most frequent ranks, so that one key has 5 % of
all rows; 10 % of the rows become known up to a day late.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

USERS = 100_000
VIEWS = ("profile", "spending", "devices")
COLUMNS = 4
TTL_DAYS = 30
SECONDS = 90 * 86_400
EPOCH = 1_704_067_200
"""2024-01-01 in seconds."""
LATE = 0.1


def write_spec(folder: Path, *, hostile: bool, as_known: bool) -> Path:
    """What `headrace features join` reads; the peers read it, too."""
    views = [
        {"name": view, "path": f"{view}.parquet", "keys": keys_of(hostile), "time": "event_timestamp", "created": "created",
         "ttl": f"{TTL_DAYS}d"}
        for view in VIEWS
    ]  # fmt: skip
    spec = {"labels": {"path": "labels.parquet", "time": "event_timestamp"}, "views": views, "as_known": as_known}
    path = folder / ("as_known.json" if as_known else "spec.json")
    path.write_text(json.dumps(spec))
    return path


def keys_of(hostile: bool) -> list[str]:
    return ["region", "account"] if hostile else ["user_id"]


def write_tables(folder: Path, *, labels: int, rows: int, hostile: bool) -> None:
    """Write `labels.parquet` (id, keys, event_timestamp) and one file a view (keys, event_timestamp, created, columns)."""
    random = np.random.default_rng(1)
    times = pl.Series("event_timestamp", _moments(random.integers(0, SECONDS, labels) * 1_000_000))
    pl.DataFrame([pl.Series("id", np.arange(labels)), *_keys(random, labels, hostile), times]).write_parquet(
        folder / "labels.parquet", compression="snappy"
    )
    for number, view in enumerate(VIEWS):
        _view(np.random.default_rng(10 + number), rows, hostile).write_parquet(folder / f"{view}.parquet", compression="snappy")


def _view(random: np.random.Generator, rows: int, hostile: bool) -> pl.DataFrame:
    again = rows // 50
    seconds = random.integers(0, SECONDS, rows - again)
    keys = _keys(random, rows - again, hostile)
    delay = random.integers(0, 60_000_000, rows)
    if hostile:
        delay += (random.random(rows) < LATE) * random.integers(0, 86_400_000_000, rows)
    values = [pl.Series(f"value_{i}", random.random(rows, np.float32)) for i in range(COLUMNS)]
    place = np.concatenate([np.arange(rows - again), random.integers(0, rows - again, again)])
    event = seconds[place] * 1_000_000
    created = event + delay // rows * rows + np.arange(rows)  # (no two are equal among the rows of one event time)
    times = [pl.Series("event_timestamp", _moments(event)), pl.Series("created", _moments(created))]
    frame = pl.DataFrame([*(key.gather(place) for key in keys), *times, *values])
    return frame.sample(fraction=1.0, shuffle=True, seed=int(random.integers(1 << 30)))


def _moments(micros: np.ndarray) -> pl.Series:
    return pl.Series(micros + EPOCH * 1_000_000).cast(pl.Datetime("us", "UTC"))


def _keys(random: np.random.Generator, rows: int, hostile: bool) -> list[pl.Series]:
    if not hostile:
        return [pl.Series("user_id", random.integers(0, USERS, rows))]
    shares = np.cumsum(np.arange(3, USERS + 3) ** -1.1)
    user = np.searchsorted(shares, random.random(rows) * shares[-1])
    region = pl.Series("region", ["north", "east", "south", "west", "online"]).gather(user % 5)
    names = pl.Series("account", [f"account-{number:012d}" for number in range(USERS)])
    return [region.alias("region"), names.gather(user)]
