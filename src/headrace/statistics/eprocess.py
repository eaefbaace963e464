"""E-processes: evidence against a null hypothesis that may be looked at at any time.

Under the null, P(E ever reaches 1 / alpha) <= alpha (Ville's inequality; Ramdas et al. 2023, "Game-theoretic statistics
and safe anytime-valid inference"). Products over consecutive segments and averages of e-processes are e-processes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_log_gamma = np.frompyfunc(math.lgamma, 1, 1)


def log_beta(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """The logarithm of the beta function."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    value: Floats = np.asarray(_log_gamma(a) + _log_gamma(b) - _log_gamma(a + b), np.float64)
    return value


def _continued_fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    """Lentz's method for the fraction of DLMF 8.17.22; converges fast for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c = np.ones_like(x)
    d = 1 / np.where(np.abs(1 - (a + b) * x / (a + 1)) < tiny, tiny, 1 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / np.where(np.abs(d) < tiny, tiny, d)
            c = 1 + numerator / c
            c = np.where(np.abs(c) < tiny, tiny, c)
            factor = c * d
            value *= factor
        if np.all(np.abs(factor - 1) < 1e-14):
            break
    return value


def log_beta_tail(x: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """log P(X > x) of a Beta(a, b) variable, elementwise, 0 < x < 1: the logarithm of 1 - I_x(a, b).

    The incomplete beta function by its continued fraction, DLMF 8.17.22, on the side where it converges fast.
    """
    x, a, b = (v.astype(np.float64) for v in np.broadcast_arrays(x, a, b))
    upper = x >= (a + 1) / (a + b + 2)
    p, q = np.where(upper, b, a), np.where(upper, a, b)
    y = np.where(upper, 1 - x, x)
    log_part = p * np.log(y) + q * np.log1p(-y) - np.log(p) - log_beta(a, b) + np.log(_continued_fraction(p, q, y))
    with np.errstate(divide="ignore"):
        value: Floats = np.where(upper, log_part, np.log1p(-np.minimum(np.exp(log_part), 1.0)))
    return value


def log_excess_e_value(hits: npt.ArrayLike, total: npt.ArrayLike, weight: float) -> Floats:
    """The logarithm of the e-value against "each of `total` events is a hit with probability <= weight", elementwise.

    E = integral over theta of (theta/w)^x ((1-theta)/(1-w))^(n-x), theta uniform on (w, 1), in closed form
    B(x+1, n-x+1) (1 - I_w(x+1, n-x+1)) / ((1-w) w^x (1-w)^(n-x)): the mixture method of Robbins (1970) for a one-sided
    Bernoulli null. With w the share of entities that the challenger serves and an event the first error of an entity, a
    hit is an error of the challenger's. O(1) for each event; time and load cancel.
    """
    x, n = np.asarray(hits, np.float64), np.asarray(total, np.float64)
    y = n - x
    mixture = log_beta(x + 1, y + 1) + log_beta_tail(weight, x + 1, y + 1) - math.log1p(-weight)
    return mixture - x * math.log(weight) - y * math.log1p(-weight)


def log_ratio_e_value(hits: npt.ArrayLike, total: npt.ArrayLike, weight: float) -> Floats:
    """The logarithm of the e-value against "each event is a hit with probability exactly weight": two-sided.

    theta is Beta(2w, 2(1-w)), whose mean is w: sample-ratio mismatch as in Lindon and Malek (arXiv 2011.03567).
    """
    x, n = np.asarray(hits, np.float64), np.asarray(total, np.float64)
    a, b = 2 * weight, 2 * (1 - weight)
    y = n - x
    return log_beta(a + x, b + y) - log_beta(a, b) - x * math.log(weight) - y * math.log1p(-weight)


def running_log_e(hits: npt.ArrayLike, weight: float, *, before: tuple[int, int] = (0, 0), two_sided: bool = False) -> Floats:
    """The log e-value after each event of one segment: `hits` bool [n]; `before` = (hits, events) earlier in it."""
    marks = np.asarray(hits, bool)
    x = before[0] + np.cumsum(marks)
    n = before[1] + np.arange(1, len(marks) + 1)
    return log_ratio_e_value(x, n, weight) if two_sided else log_excess_e_value(x, n, weight)


def e_value(log_e: float) -> float:
    """exp(log_e), at most 1e300: a number JSON can carry."""
    return math.exp(min(log_e, 690.0))
