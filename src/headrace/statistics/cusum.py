"""The Bernoulli CUSUM: the quickest detection of a rise of an error rate (Page 1954; Reynolds and Stoumbos 1999)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def bernoulli_cusum(errors: npt.ArrayLike, p0: float, p1: float, start: float = 0.0) -> Floats:
    """S_t = max(0, S_{t-1} + log likelihood ratio of p1 against p0) after each error indicator (or a loss in [0, 1]).

    0 < p0 < p1 < 1. `start` is S before the first.
    """
    x = np.asarray(errors, np.float64)
    steps = x * math.log(p1 / p0) + (1 - x) * math.log((1 - p1) / (1 - p0))
    total = start + np.cumsum(steps)
    value: Floats = total - np.minimum(np.minimum.accumulate(total), 0.0)
    return value


def alarm_level(p0: float, p1: float, average_run_length: float) -> float:
    """The level h at which false alarms come on average once in `average_run_length` observations or less often.

    Solves ARL0 = (exp(h) - h - 1) / E0[-step] (Siegmund 1985, section 2.6, without the overshoot, which makes the true
    run length longer), by Newton's method.
    """
    drift = -(p0 * math.log(p1 / p0) + (1 - p0) * math.log((1 - p1) / (1 - p0)))
    wanted = average_run_length * drift
    level = math.log1p(wanted) + 1
    for _ in range(50):
        level -= (math.exp(level) - level - 1 - wanted) / (math.exp(level) - 1)
    return level
