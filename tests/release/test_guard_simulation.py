from __future__ import annotations

import numpy as np
import pytest
from rollout_traffic import POLICY, Traffic, arms, null_rollout, run, traffic


def sabotaged(index: int, share: float) -> int:
    """Canary entities spent until a challenger that fails on `share` of its requests was rolled back; judged after
    every request."""
    rng = np.random.default_rng([23, index])
    log = traffic(rng, 1500, 3000, 0.001)
    salt = f"sabotage-{index}"
    challenger, _ = arms(salt, 1500, log.entity)
    error = log.unlucky | (challenger & (rng.random(len(log.entity)) < share))
    outcome = run(salt, 1500, log, error, at_once=1)
    assert outcome.rolled_back == ["errors"]
    return outcome.spent


def test_few_false_roll_backs_over_300_null_rollouts() -> None:
    outcomes = [null_rollout(i)[0] for i in range(300)]
    assert sum(bool(o.rolled_back) for o in outcomes) <= 3, "alpha is 1 %"
    assert sum(o.held for o in outcomes) <= 3
    assert np.mean([o.safe for o in outcomes]) > 0.6, "an equal challenger is shown to be no worse"


def test_a_challenger_that_fails_half_its_requests_is_caught_after_7_entities() -> None:
    spent = [sabotaged(i, 0.5) for i in range(40)]
    assert np.median(spent) <= 7
    assert max(spent) <= 20


def test_a_challenger_worse_by_the_margin_is_hardly_ever_shown_to_be_safe() -> None:
    safe = 0
    for index in range(60):
        rng = np.random.default_rng([29, index])
        log = traffic(rng, 1500, 3000, 0.002)
        salt = f"worse-{index}"
        challenger, _ = arms(salt, 1500, log.entity)
        worse = log.unlucky | (challenger & (rng.random(len(log.entity)) < POLICY.margin))
        outcome = run(salt, 1500, log, worse)
        safe += outcome.safe and not outcome.rolled_back
    assert safe <= 3


def test_the_sample_ratio_guard_sees_lost_canary_answers() -> None:
    """Half of the canary entities never get to the log: a crash that takes its own record with it."""
    rng = np.random.default_rng(31)
    log = traffic(rng, 1500, 6000, 0.001)
    kept = ~(arms("lost", 1500, log.entity)[0] & (log.entity % 2 == 0))
    seen = Traffic(log.entity[kept], log.unlucky[kept], log.slow[kept], log.score[kept])
    assert run("lost", 1500, seen, seen.unlucky).rolled_back == ["sample_ratio"]


@pytest.mark.slow
def test_false_roll_backs_over_1000_null_rollouts_against_a_repeated_z_test() -> None:
    results = [null_rollout(i) for i in range(1000)]
    false = sum(bool(outcome.rolled_back) for outcome, _ in results)
    z_test = sum(fired for _, fired in results)
    print({"rollouts": 1000, "false_roll_backs": false, "repeated_z_test": z_test})
    assert false <= 10, "alpha is 1 %"
    assert z_test >= 200, "the negative control: the traffic is hard enough to fool a test that may not be repeated"


@pytest.mark.slow
def test_99_percent_of_sabotaged_challengers_are_caught_by_20_entities() -> None:
    spent = np.array([sabotaged(1000 + i, 0.5) for i in range(300)])
    print({"median": float(np.median(spent)), "by_20": float(np.mean(spent <= 20)), "max": int(spent.max())})
    assert np.median(spent) <= 7
    assert np.mean(spent <= 20) >= 0.99
