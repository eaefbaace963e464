"""Confidence sequences and betting tests for means of bounded values: valid at every time at once.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024 (arXiv 2010.09686).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BETS = np.array([0.1, 0.3, 0.6, 0.9])
"""Fractions of the largest bet that can't ruin; the capital is their average."""


def log_capitals(values: npt.ArrayLike, at_most: float, before: npt.ArrayLike = 0.0) -> Floats:
    """float64 [n, bets]: log capital after each value, betting that the mean of values in [-1, 1] exceeds `at_most`.

    Each bet multiplies capital by 1 + l (value - at_most), l <= 1 / (1 + at_most): not negative, and a supermartingale
    while the conditional means are <= at_most. `before` [bets] is the log capital so far. at_most in (-1, 1).
    """
    x = np.clip(np.asarray(values, np.float64), -1.0, 1.0)
    bets = BETS / (1 + at_most)
    steps = np.log1p(np.outer(x - at_most, bets))
    total: Floats = np.cumsum(steps, axis=0) + np.asarray(before, np.float64)
    return total


def log_mean_capital(log_capital: npt.ArrayLike) -> Floats:
    """The log of the average capital over the last axis: the e-process of the mixture of bets."""
    x = np.asarray(log_capital, np.float64)
    top = x.max(axis=-1, keepdims=True)
    value: Floats = np.log(np.mean(np.exp(x - top), axis=-1)) + top[..., 0]
    return value


def empirical_bernstein(
    values: npt.ArrayLike, alpha: float, *, lower: float = 0.0, upper: float = 1.0
) -> tuple[Floats, Floats]:
    """The 1 - alpha confidence sequence (low [n], high [n]) of the mean of values in [lower, upper].

    The predictable plug-in empirical Bernstein sequence, theorem 2 of the paper, intersected over time.
    """
    x = (np.asarray(values, np.float64) - lower) / (upper - lower)
    t = np.arange(1, len(x) + 1)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    earlier_mean = np.concatenate([[0.5], mean[:-1]])
    earlier_variance = np.concatenate([[0.25], variance[:-1]])
    bet = np.minimum(np.sqrt(2 * math.log(2 / alpha) / (earlier_variance * t * np.log1p(t))), 0.5)
    spread = (x - earlier_mean) ** 2 * (-np.log1p(-bet) - bet)
    weight = np.cumsum(bet)
    centre = np.cumsum(bet * x) / weight
    radius = (math.log(2 / alpha) + np.cumsum(spread)) / weight
    low = np.maximum.accumulate(np.maximum(centre - radius, 0.0))
    high = np.minimum.accumulate(np.minimum(centre + radius, 1.0))
    return lower + low * (upper - lower), lower + high * (upper - lower)
