"""Paired bootstrap: two scorings of the same rows, whole clusters (entities) drawn again with their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats], Floats]
"""Row weights [draws, n] -> the figure [draws]."""
DRAWS_AT_ONCE = 4_000_000
"""Weights held in memory at one time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure's `estimate` on all rows with the percentile interval [`low`, `high`] of the draws."""

    estimate: float
    low: float
    high: float


def bootstrap(
    measure: Measure, rows: int, *, clusters: npt.ArrayLike | None = None, draws: int = 500, level: float = 0.95, seed: int = 0
) -> Difference:
    """The percentile interval of `measure` under resampling of rows, or of clusters [rows]. Deterministic by `seed`.

    Efron and Tibshirani 1993, chapter 13; the cluster bootstrap keeps rows of one entity together. NaN without rows.
    """
    if rows == 0:
        return Difference(float("nan"), float("nan"), float("nan"))
    member = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].ravel()
    groups = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    results = []
    size = max(1, DRAWS_AT_ONCE // rows)
    for first in range(0, draws, size):
        count = min(size, draws - first)
        drawn = rng.integers(0, groups, (count, groups)) + np.arange(count)[:, None] * groups
        weights = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        results.append(measure(weights[:, member].astype(np.float64)))
    figures = np.concatenate(results)
    figures = figures[~np.isnan(figures)]
    estimate = float(measure(np.ones((1, rows)))[0])
    if not figures.size:
        return Difference(estimate, float("nan"), float("nan"))
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return Difference(estimate, float(low), float(high))


def mean_of(values: npt.ArrayLike) -> Measure:
    """The weighted mean of `values` [n]."""
    column = np.asarray(values, np.float64)
    return lambda weights: weights @ column / weights.sum(axis=1)


def average_precision_of(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Measure:
    """The weighted average precision: `metrics.average_precision` where each row counts as often as its weight."""
    y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    order = np.argsort(-s, kind="stable")
    ordered = s[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def measure(weights: Floats) -> Floats:
        w = weights[:, order]
        true_positives = np.cumsum(w * y[order], axis=1)[:, last]
        predicted = np.cumsum(w, axis=1)[:, last]
        gained = np.diff(true_positives, axis=1, prepend=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(predicted > 0, true_positives / predicted, 0.0)
            value: Floats = np.sum(gained * precision, axis=1) / true_positives[:, -1]
        return value

    return measure


def difference_of(first: Measure, second: Measure) -> Measure:
    """`first` - `second` on the same draw: pairing removes what both share."""
    return lambda weights: first(weights) - second(weights)
