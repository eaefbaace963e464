"""How far two histograms of the same cells are apart, and whether that can be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.statistics.histograms import Counts, coarse_cells, merge_cells

SMOOTHING = 0.5
"""Added to every cell before shares are taken (Krichevsky-Trofimov), so that an empty cell gives no infinity."""


def _shares(counts: npt.ArrayLike, smoothing: float) -> npt.NDArray[np.float64]:
    smoothed = np.asarray(counts, dtype=np.float64) + smoothing
    total = smoothed.sum()
    shares: npt.NDArray[np.float64] = smoothed / total if total > 0 else smoothed
    return shares


def _occupied(reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[Counts, Counts]:
    """Both histograms without the cells that are empty in both."""
    left, right = np.asarray(reference, np.int64), np.asarray(current, np.int64)
    kept = (left > 0) | (right > 0)
    return left[kept], right[kept]


def psi(reference: npt.ArrayLike, current: npt.ArrayLike, *, smoothing: float = SMOOTHING) -> float:
    """Population stability index, sum of (c - r) ln(c / r) over the shares of the cells; 0 for equal shares.

    Natural logarithm: Jeffreys' symmetric divergence (Kullback and Leibler 1951). Without drift it is about
    chi2(cells - 1) (1/n + 1/m): coarsen small samples first. 0 when either side is empty.
    """
    left, right = _occupied(reference, current)
    if left.sum() == 0 or right.sum() == 0:
        return 0.0
    r, c = _shares(left, smoothing), _shares(right, smoothing)
    return float(np.sum((c - r) * np.log(c / r)))


def js(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """Jensen-Shannon divergence, base 2, in [0, 1] (Lin 1991); not its square root. 0 when either side is empty."""
    left, right = _occupied(reference, current)
    if left.sum() == 0 or right.sum() == 0:
        return 0.0
    r, c = _shares(left, 0.0), _shares(right, 0.0)
    middle = (r + c) / 2
    halves = [float(np.sum(p[p > 0] * np.log2(p[p > 0] / middle[p > 0]))) for p in (r, c)]
    return min(max((halves[0] + halves[1]) / 2, 0.0), 1.0)


def coarsened(reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[Counts, Counts]:
    """Both histograms on at most ten merged bins (and NaN) chosen on the reference alone."""
    left = np.asarray(reference, np.int64)
    cells = coarse_cells(left)
    return merge_cells(left, cells), merge_cells(np.asarray(current, np.int64), cells)


def homogeneity_p_value(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """Pearson's chi-squared test that two rows of counts come from one distribution; 1 when there is nothing to test.

    The approximation wants expected counts of about 5: coarsen first. It takes rows as independent.
    """
    left, right = _occupied(reference, current)
    n, m = int(left.sum()), int(right.sum())
    if len(left) < 2 or n == 0 or m == 0:
        return 1.0
    both = (left + right).astype(np.float64)
    statistic = float(np.sum((left * math.sqrt(m / n) - right * math.sqrt(n / m)) ** 2 / both))
    return upper_gamma((len(left) - 1) / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x), relative error about 1e-12.

    Series below a + 1 and Lentz's continued fraction above (Numerical Recipes, section 6.2; DLMF 8.7.1, 8.9.2).
    """
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while abs(term) > abs(total) * 1e-16:
            k += 1
            term *= x / k
            total += term
        return max(0.0, 1 - total * scale)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for i in range(1, 10_000):
        factor = -i * (i - a)
        b += 2
        d = 1 / (factor * d + b or tiny)
        c = b + factor / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value * scale


def benjamini_hochberg(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses to reject so that the expected share of false rejections is at most `level` (B. & H. 1995)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= level * np.arange(1, len(p) + 1) / max(len(p), 1))
    rejected = np.zeros(len(p), bool)
    if passed.size:
        rejected[order[: passed[-1] + 1]] = True
    return [bool(r) for r in rejected]
