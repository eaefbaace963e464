from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.statistics.bootstrap import average_precision_of, bootstrap, difference_of, mean_of
from headrace.statistics.confidence import BETS, log_capitals, log_mean_capital
from headrace.statistics.cusum import alarm_level, bernoulli_cusum
from headrace.statistics.metrics import average_precision, log_losses


def test_betting_detects_a_mean_above_and_keeps_its_level_below() -> None:
    rng = np.random.default_rng(1)
    false = 0
    for _ in range(400):
        values = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.75, 0.15], size=400)
        false += log_mean_capital(log_capitals(values, 0.05)).max() >= math.log(20)
    assert false <= 32, "at most 5 % of 400, with three standard errors"
    assert log_mean_capital(log_capitals(np.full(200, 0.2), 0.05)).max() >= math.log(20)


def test_capital_of_one_value_by_hand_and_in_parts() -> None:
    capital = np.exp(log_capitals([0.5], 0.25))[0]
    assert capital == pytest.approx(1 + BETS / 1.25 * 0.25)
    values = np.linspace(-1, 1, 50)
    whole = log_capitals(values, 0.1)
    parts = log_capitals(values[20:], 0.1, before=whole[19])
    assert np.allclose(parts, whole[20:])
    assert np.all(np.isfinite(whole)), "the largest bet can't ruin"


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(0, 79))
@settings(deadline=None, max_examples=60)
def test_cusum_is_its_recursion_and_continues(errors: list[bool], cut: int) -> None:
    state, expected = 0.0, []
    for error in errors:
        step = math.log(0.2 / 0.1) if error else math.log(0.8 / 0.9)
        state = max(0.0, state + step)
        expected.append(state)
    whole = bernoulli_cusum(errors, 0.1, 0.2)
    assert np.allclose(whole, expected)
    cut = min(cut, len(errors) - 1)
    rest = bernoulli_cusum(errors[cut + 1 :], 0.1, 0.2, start=float(whole[cut]))
    assert np.allclose(rest, expected[cut + 1 :])


def test_cusum_finds_a_doubled_error_rate_soon_and_keeps_its_run_length() -> None:
    # facts: oracle-p0 CUSUM .10 -> .20 has a median delay of 162 at ARL0 62,500, .10 -> .40 of 47.
    rng = np.random.default_rng(3)
    level = alarm_level(0.1, 0.15, 20_000)
    runs, delays, violent = [], [], []
    for _ in range(60):
        path = bernoulli_cusum(rng.random(60_000) < 0.1, 0.1, 0.15)
        runs.append(int(np.argmax(path >= level)) if path.max() >= level else 60_000)
        delays.append(int(np.argmax(bernoulli_cusum(rng.random(2_000) < 0.2, 0.1, 0.15) >= level)))
        violent.append(int(np.argmax(bernoulli_cusum(rng.random(2_000) < 0.4, 0.1, 0.15) >= level)))
    assert np.mean(runs) > 17_000, "censored at 60,000: the true mean is longer"
    assert np.median(delays) < 165
    assert np.median(violent) < 50


def test_weighted_average_precision_repeats_rows() -> None:
    rng = np.random.default_rng(4)
    scores = np.round(rng.random(200), 1)
    labels = (rng.random(200) < 0.3).astype(float)
    weights = rng.integers(0, 3, 200)
    repeated = average_precision(np.repeat(labels, weights), np.repeat(scores, weights))
    assert average_precision_of(labels, scores)(weights[None, :].astype(float))[0] == pytest.approx(repeated)


def test_paired_bootstrap_finds_the_better_scoring_and_is_seeded() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(3_000)
    labels = (rng.random(3_000) < truth).astype(float)
    good, bad = truth, np.clip(truth + rng.normal(0, 0.3, 3_000), 0, 1)
    measure = difference_of(average_precision_of(labels, good), average_precision_of(labels, bad))
    found = bootstrap(measure, 3_000, draws=200, seed=7)
    assert 0 < found.low < found.estimate < found.high
    assert found == bootstrap(measure, 3_000, draws=200, seed=7)
    losses = mean_of(log_losses(labels, good) - log_losses(labels, good))
    assert bootstrap(losses, 3_000, draws=50).high == 0


def test_clusters_widen_the_interval_of_repeated_rows() -> None:
    values = np.repeat(np.random.default_rng(6).normal(size=50), 40)
    clusters = np.repeat(np.arange(50), 40)
    rows = bootstrap(mean_of(values), 2_000, draws=300)
    grouped = bootstrap(mean_of(values), 2_000, clusters=clusters, draws=300)
    assert grouped.high - grouped.low > 3 * (rows.high - rows.low)
    assert math.isnan(bootstrap(mean_of([]), 0).estimate)
