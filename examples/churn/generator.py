"""Simulated orders of a web shop: each customer orders at a rate of their own, until one day some slow down and leave."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

START = date(2025, 1, 1)
CHANNELS = np.array(["web", "app", "shop"])


def generate(customers: int, *, seed: int = 0, days: int = 300, start: date = START) -> pl.DataFrame:
    """About 30 orders a customer, in order of arrival: order_id, placed_at, customer, channel, total, items, coupon.

    A third of the customers leave: in the 45 days before they go they order half as often and spend less.
    """
    random = np.random.default_rng(seed)
    joined = random.uniform(0, days / 3, customers)
    leaves = np.where(random.random(customers) < 1 / 3, random.uniform(days / 3, days, customers), np.inf)
    gap = random.gamma(4, 2, customers) + 1
    spending = random.lognormal(3.5, 0.5, customers)
    rows: list[tuple[float, int, float]] = []
    for number in range(customers):
        at = joined[number]
        while at < min(days, leaves[number]):
            fading = leaves[number] - at < 45
            rows.append((at, number, spending[number] * (0.6 if fading else 1.0)))
            at += random.exponential(gap[number] * (2.0 if fading else 1.0)) + 1e-4
    rows.sort()
    at, customer, mean = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    first = datetime(start.year, start.month, start.day, tzinfo=UTC)
    return pl.DataFrame(
        {
            "order_id": [f"o-{seed}-{i:07d}" for i in range(n)],
            "placed_at": [first + timedelta(seconds=int(x * 86_400)) for x in at],
            "customer": [f"customer-{int(c):05d}@shop" for c in customer],
            "channel": CHANNELS[random.choice(3, n, p=[0.6, 0.3, 0.1])],
            "total": np.round(random.gamma(3, mean / 3), 2),
            "items": 1 + random.poisson(1.5, n),
            "coupon": [f"C{c}" if c < 20 else None for c in random.integers(0, 100, n)],
        },
        schema_overrides={"placed_at": pl.Datetime("us", "UTC"), "coupon": pl.String},
    )
