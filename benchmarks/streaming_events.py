"""The events of `benchmarks/streaming.py`, friendly and hostile, and what a second way of computing says of their windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 48
HOUR_MS = 3_600_000
HEAVY, LATE = 0.05, 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """A stream of `streaming_system.py` and the keys of its views, the one of 1 h and the one of 24 h."""

    name: str
    stream: str
    hour: tuple[str, ...]
    day: tuple[str, ...]
    make: Callable[[int, int], pl.DataFrame]

    @property
    def views(self) -> Sequence[tuple[str, tuple[str, ...], str]]:
        """(view, keys, window)."""
        return (f"{self.stream}s_hour", self.hour, "1h"), (f"{self.stream}s_day", self.day, "24h")


def _times(random: np.random.Generator, number: int) -> pl.Series:
    """Milliseconds over HOURS, in order."""
    at = np.sort(random.integers(0, HOURS * HOUR_MS, number)) + int(START.timestamp() * 1000)
    return pl.Series("at", at).cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC"))


def friendly(number: int, keys: int) -> pl.DataFrame:
    """Integer keys, all alike, in the order of time."""
    random = np.random.default_rng(0)
    columns = {
        "event_id": np.arange(number),
        "at": _times(random, number),
        "user": random.integers(0, keys, number),
        "amount": np.round(random.exponential(50, number), 2),
    }
    return pl.DataFrame(columns)


def hostile(number: int, keys: int) -> pl.DataFrame:
    """Texts as ids and keys, one key of two texts; Zipf 1.1 over the customers, of whom one has HEAVY of all rows; LATE of
    the events arrive up to an hour late, the others shuffled within a second."""
    random = np.random.default_rng(1)
    weights = 1 / np.arange(1, keys + 1) ** 1.1
    user = random.choice(keys, number, p=weights / weights.sum())
    user[random.random(number) < HEAVY] = keys
    at = _times(random, number)
    late = random.random(number) < LATE
    delay = np.where(late, random.uniform(0, HOUR_MS, number), random.uniform(0, 1000, number))
    columns = {
        "event_id": [f"event-{n:09d}" for n in random.permutation(number).tolist()],
        "at": at,
        "customer": [f"customer {n}" for n in user.tolist()],
        "shop": [f"shop {n}" for n in random.integers(0, 20, number).tolist()],
        "amount": np.round(random.exponential(50, number), 2),
        "arrives": at.to_physical() // 1000 + delay.astype(np.int64),
    }
    return pl.DataFrame(columns).sort("arrives").drop("arrives")


FRIENDLY = Case("friendly", "payment", ("user",), ("user",), friendly)
HOSTILE = Case("hostile", "click", ("customer",), ("customer", "shop"), hostile)


def last_values(frame: pl.DataFrame, by: Sequence[str], window: str) -> pl.DataFrame:
    """Of each key its newest event time, and count, sum and mean of (t - window, t] then."""
    of = pl.col("amount")
    rolled = frame.sort("at").rolling("at", period=window, group_by=list(by), closed="right")
    values = rolled.agg(pl.len().alias("count"), of.sum().alias("sum"), of.mean().alias("mean"))
    return values.sort("at").group_by(list(by)).last()
