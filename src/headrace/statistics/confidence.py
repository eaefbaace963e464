"""Betting tests for means of bounded values: valid at every time at once.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024 (arXiv 2010.09686).
"""

from __future__ import annotations

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
