from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import gammaincc

from headrace.statistics.divergences import (
    benjamini_hochberg,
    coarsened,
    homogeneity_p_value,
    js,
    psi,
    upper_gamma,
)
from headrace.statistics.histograms import bin_counts, quantile_edges

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=20)


def test_psi_of_a_worked_example() -> None:
    # Shares .5/.5 to .4/.6, by hand: (-.1) ln .8 + .1 ln 1.2.
    assert psi([50, 50], [40, 60], smoothing=0) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8), rel=1e-12)


def test_psi_of_a_mean_shift_of_d_sigma_is_about_d_squared() -> None:
    rng = np.random.default_rng(3)
    reference, shifted = rng.normal(size=200_000), rng.normal(0.45, size=200_000)
    edges = quantile_edges(reference, 128)
    assert psi(bin_counts(reference, edges), bin_counts(shifted, edges)) == pytest.approx(0.45**2, rel=0.05)


@given(COUNTS, COUNTS)
@settings(deadline=None, max_examples=60)
def test_divergences_are_symmetric_not_negative_and_bounded(left: list[int], right: list[int]) -> None:
    right = (right * 20)[: len(left)]
    assert psi(left, right) == pytest.approx(psi(right, left), abs=1e-12)
    assert psi(left, right) >= 0
    assert 0 <= js(left, right) <= 1
    assert psi(left, left) == 0 == js(left, left)
    if sum(left) and sum(right):
        expected = jensenshannon(left, right, base=2) ** 2
        assert js(left, right) == pytest.approx(float(np.nan_to_num(expected)), abs=1e-9)


def test_js_of_disjoint_histograms_is_one() -> None:
    assert js([10, 0], [0, 3]) == 1.0


@given(st.floats(0.5, 80), st.floats(0, 300))
@settings(deadline=None, max_examples=150)
def test_incomplete_gamma_agrees_with_scipy(a: float, x: float) -> None:
    assert upper_gamma(a, x) == pytest.approx(float(gammaincc(a, x)), rel=1e-9, abs=1e-13)


@given(COUNTS, COUNTS)
@settings(deadline=None, max_examples=60)
def test_homogeneity_agrees_with_the_contingency_test_of_scipy(left: list[int], right: list[int]) -> None:
    table = np.array([left, (right * 20)[: len(left)]])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2 or 0 in table.sum(1):
        return
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert homogeneity_p_value(table[0], table[1]) == pytest.approx(expected, rel=1e-8, abs=1e-13)


def test_coarsening_keeps_small_samples_from_inflating_psi() -> None:
    rng = np.random.default_rng(4)
    reference = rng.normal(size=50_000)
    edges = quantile_edges(reference, 128)
    counts = bin_counts(reference, edges)
    fine, coarse, rejected = [], [], 0
    for _ in range(200):
        current = bin_counts(rng.normal(size=200), edges)
        fine.append(psi(counts, current))
        left, right = coarsened(counts, current)
        coarse.append(psi(left, right))
        rejected += homogeneity_p_value(left, right) < 0.05
    assert np.mean(fine) > 0.2, "128 bins of 200 values look like drift"
    assert max(coarse) < 0.2
    assert rejected <= 20, "5 % are expected of 200"


def test_benjamini_hochberg_on_the_example_of_the_paper() -> None:
    # Benjamini and Hochberg 1995, section 3.2: 15 p-values, 4 rejected at q = 0.05 (Bonferroni rejects 3).
    p = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0]  # fmt: skip
    assert benjamini_hochberg(p, 0.05) == [True] * 4 + [False] * 11
    assert benjamini_hochberg([], 0.05) == []
