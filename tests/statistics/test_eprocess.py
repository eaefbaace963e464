from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from headrace.statistics.eprocess import (
    e_value,
    log_beta_tail,
    log_excess_e_value,
    log_ratio_e_value,
    running_log_e,
)


@given(st.floats(0.001, 0.999), st.floats(0.5, 3000), st.floats(0.5, 3000))
@settings(deadline=None, max_examples=150)
def test_beta_tail_agrees_with_scipy(x: float, a: float, b: float) -> None:
    expected = float(stats.beta.logsf(x, a, b))
    if expected > -600:
        assert float(log_beta_tail(x, a, b)) == pytest.approx(expected, rel=1e-8, abs=1e-11)


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.01, 0.05, 0.25, 0.5, 0.9]))
@settings(deadline=None, max_examples=60)
def test_excess_e_value_is_the_integral_of_its_definition(x: int, y: int, w: float) -> None:
    def likelihood_ratio(theta: float) -> float:
        return (theta / w) ** x * ((1 - theta) / (1 - w)) ** y / (1 - w)

    peak = min(max(x / max(x + y, 1), w), 1.0)
    expected = integrate.quad(likelihood_ratio, w, peak)[0] + integrate.quad(likelihood_ratio, peak, 1)[0]
    assert float(log_excess_e_value(x, x + y, w)) == pytest.approx(math.log(expected), abs=1e-6)


def test_golden_figures_by_hand() -> None:
    # w = .05, x = n = 3: (1/4)(1 - .05^4) / (.95 * .05^3) = 2105.24...; no event is no evidence.
    assert e_value(float(log_excess_e_value(3, 3, 0.05))) == pytest.approx(0.25 * (1 - 0.05**4) / (0.95 * 0.05**3))
    assert float(log_excess_e_value(0, 0, 0.05)) == pytest.approx(0)
    # Beta(1, 1), w = 1/2, one hit of one: B(2,1) / (1/2) = 1.
    assert float(log_ratio_e_value(1, 1, 0.5)) == pytest.approx(0)
    assert e_value(float(log_ratio_e_value(10, 10, 0.5))) == pytest.approx(2**10 / 11)


@given(st.integers(1, 40), st.sampled_from([0.02, 0.05, 0.3, 0.5]))
@settings(deadline=None, max_examples=40)
def test_the_mean_of_an_e_value_under_its_null_is_one(n: int, w: float) -> None:
    x = np.arange(n + 1)
    chance = stats.binom.pmf(x, n, w)
    assert float(chance @ np.exp(log_excess_e_value(x, n, w))) == pytest.approx(1)
    assert float(chance @ np.exp(log_ratio_e_value(x, n, w))) == pytest.approx(1)
    below = stats.binom.pmf(x, n, w / 2)
    assert float(below @ np.exp(log_excess_e_value(x, n, w))) <= 1, "a better challenger is no evidence"


def test_running_values_agree_with_the_closed_form_and_continue() -> None:
    marks = np.random.default_rng(1).random(300) < 0.2
    whole = running_log_e(marks, 0.1)
    assert whole[-1] == pytest.approx(float(log_excess_e_value(marks.sum(), 300, 0.1)))
    later = running_log_e(marks[100:], 0.1, before=(int(marks[:100].sum()), 100))
    assert np.allclose(later, whole[100:])


def test_ville_bound_holds_over_two_segments_and_many_looks() -> None:
    rng = np.random.default_rng(2)
    crossed = 0
    for _ in range(1000):
        first = running_log_e(rng.random(150) < 0.05, 0.05)
        second = first[-1] + running_log_e(rng.random(150) < 0.25, 0.25)
        crossed += max(first.max(), second.max()) >= math.log(20)
    assert crossed <= 70, "at most 5 % of 1,000, with three standard errors"
    assert crossed > 0
