"""Simulated card payments, after the publication's generator (Fraud Detection Handbook, 2022, chapter 3), vectorised.

Customers and terminals lie in a square; a customer pays at terminals nearby. Three kinds of fraud: amounts above 220,
terminals compromised for 28 days, cards leaked for 14 days. The draws a day scale with the size, so that the share of
frauds stays near the published 0.84 %.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

DAYS = 183
START = date(2018, 4, 1)
SIDE, RADIUS = 100.0, 5.0
CUSTOMERS, TERMINALS = 5_000, 10_000
"""The published world; other sizes keep its proportions."""
TERMINAL_DRAWS, TERMINAL_DAYS = 2, 28
CARD_DRAWS, CARD_DAYS = 3, 14
KEPT = 0.969
"""P(0 < N(43200, 20000) < 86400): the share of drawn payments whose second lies inside the day."""


def generate(payments: int, *, seed: int = 0, days: int = DAYS, start: date = START) -> pl.DataFrame:
    """Exactly `payments` rows over `days`, in order of arrival: tx_id, at, customer_id, terminal_id, amount, is_fraud,
    scenario (0: no fraud)."""
    random = np.random.default_rng(seed)
    drawn = payments + 5 * int(payments**0.5) + 20
    customers = int(np.ceil(drawn / (2 * KEPT * days)))
    terminals = 2 * customers
    per_day = random.permutation((np.arange(customers) + 0.5) * (4 / customers))  # U(0, 4), stratified: its mean is 2
    mean_amount = random.uniform(5, 100, customers)

    counts = random.poisson(per_day[:, None], (customers, days))
    customer, day = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    second = random.normal(43_200, 20_000, len(customer)).astype(np.int64)
    inside = np.flatnonzero((second > 0) & (second < 86_400))
    chosen = random.choice(inside, payments, replace=False) if len(inside) > payments else inside
    order = chosen[np.lexsort((chosen, second[chosen], day[chosen]))]
    customer, day, second = customer[order], day[order], second[order]

    mean = mean_amount[customer]
    amount = random.normal(mean, mean / 2)
    amount = np.where(amount < 0, random.uniform(0, 2 * mean), amount).round(2)
    terminal = _terminals(random, customer, customers, terminals)
    amount, scenario = _frauds(random, (customer, terminal, day, amount), (customers, terminals, days))
    at = np.datetime64(start, "us") + (day * 86_400 + second).astype("timedelta64[s]")
    return pl.DataFrame(
        {
            "tx_id": np.arange(len(order)),
            "at": at,
            "customer_id": customer,
            "terminal_id": terminal,
            "amount": amount,
            "is_fraud": scenario > 0,
            "scenario": scenario.astype(np.int8),
        }
    ).with_columns(pl.col("at").dt.replace_time_zone("UTC"))


def _terminals(random: np.random.Generator, customer: np.ndarray, customers: int, terminals: int) -> np.ndarray:
    """A terminal for each payment: one within RADIUS of the customer, else the nearest."""
    homes = random.uniform(0, SIDE, (customers, 2))
    places = random.uniform(0, SIDE, (terminals, 2))
    near: list[np.ndarray] = []
    for home in homes:
        distance = ((places - home) ** 2).sum(axis=1)
        within = np.flatnonzero(distance < RADIUS**2)
        near.append(within if len(within) else np.array([distance.argmin()]))
    lengths = np.array([len(n) for n in near])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    draw = (random.random(len(customer)) * lengths[customer]).astype(np.int64)
    return np.concatenate(near)[first[customer] + draw]


def _frauds(
    random: np.random.Generator,
    payments: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    sizes: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The amounts, those of leaked cards five times as high, and the scenario of each payment."""
    customer, terminal, day, amount = payments
    customers, terminals, days = sizes
    compromised = _spells(random, terminals, days, TERMINAL_DRAWS * terminals / TERMINALS, TERMINAL_DAYS)
    leaked = _spells(random, customers, days, CARD_DRAWS * customers / CUSTOMERS, CARD_DAYS)
    scenario = np.where(amount > 220, 1, 0)
    scenario[compromised[terminal, day]] = 2
    stolen = leaked[customer, day] & (random.random(len(day)) < 1 / 3)
    scenario[stolen] = 3
    return np.where(stolen, (amount * 5).round(2), amount), scenario


def _spells(random: np.random.Generator, things: int, days: int, draws: float, length: int) -> np.ndarray:
    """bool [things, days]: each day about `draws` things are drawn, and are struck for `length` days."""
    struck = np.zeros((things, days), bool)
    number = np.diff(np.floor(np.arange(days + 1) * draws)).astype(int)
    for day, count in enumerate(number):
        for thing in random.integers(0, things, count):
            struck[thing, day : day + length] = True
    return struck
