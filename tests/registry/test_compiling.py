from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from headrace.kernel.errors import CheckFailed
from headrace.registry.compiling import compile_estimator
from headrace.registry.graphs import float32_below, lightgbm_thresholds
from headrace.registry.proving import equal_order, prove, threshold_rows
from headrace.registry.runtimes import load_runtime
from headrace.training.estimators import scores

ROWS = 11_000


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """Amounts of two decimals, counts, continuous values."""
    random = np.random.default_rng(3)
    amount = np.round(random.lognormal(3, 1, ROWS), 2)
    count = random.integers(0, 12, ROWS)
    mean, risk = random.normal(40, 15, ROWS), random.random(ROWS)
    rows = np.column_stack([amount, count, mean, risk]).astype(np.float64)
    labels = (amount * risk + 4 * count + random.normal(0, 8, ROWS) > 60).astype(np.int8)
    return rows, labels


def boosted(**more: Any) -> LGBMClassifier:
    return LGBMClassifier(n_estimators=30, n_jobs=1, verbose=-1, **more)


def compiled(estimator: Any, rows: np.ndarray, labels: np.ndarray) -> Any:
    return compile_estimator("model", estimator, rows, int(labels.sum()))


ESTIMATORS = {
    "lightgbm": (boosted, True),
    "lightgbm behind a scaler": (lambda: make_pipeline(StandardScaler(), boosted()), False),
    "logistic regression": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), False),
    "tree": (lambda: DecisionTreeClassifier(max_depth=6), True),
    "gradient boosting": (lambda: GradientBoostingClassifier(n_estimators=20), True),
    "forest behind a scaler": (lambda: make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), False),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_is_compiled_to_onnx_and_proved_on_real_rows_and_at_thresholds(name: str) -> None:
    make, exposes_thresholds = ESTIMATORS[name]
    rows, labels = data()
    estimator = make().fit(rows, labels)
    made = compiled(estimator, rows, labels)
    assert (made.engine, made.proof.passed, made.proof.equal_order, made.proof.rows) == ("onnx", True, True, ROWS)
    assert (made.proof.threshold_rows > 0) == exposes_thresholds
    runtime = load_runtime("onnx", made.artifact)
    assert np.abs(runtime.score(rows) - scores(estimator, rows)).max() == pytest.approx(made.proof.max_difference, abs=1e-6)
    assert runtime.score(rows[:1]).shape == (1,)


def test_nulls_go_the_same_way() -> None:
    rows, labels = data()
    rows = rows.copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    made = compiled(boosted().fit(rows, labels), rows, labels)
    assert (made.engine, made.proof.passed) == ("onnx", True)


def test_epoch_seconds_fail_the_proof_and_are_served_natively_to_the_bit() -> None:
    rows, _ = data()
    seconds = 1_700_000_000 + np.arange(ROWS) * 20.0
    labels = (seconds // 100 % 2).astype(np.int8)
    rows = np.column_stack([rows[:, :2], seconds])
    estimator = boosted(num_leaves=63).fit(rows, labels)
    made = compiled(estimator, rows, labels)
    assert made.engine == "lightgbm" and not made.proof.passed and made.proof.max_difference > 0.01
    assert "as ONNX its scores differ by up to" in made.proof.reason
    assert made.proof.native_difference == 0.0
    assert np.array_equal(made.runtime.score(rows), scores(estimator, rows))


def test_a_sklearn_tree_that_routes_nulls_cannot_be_compiled_and_is_refused() -> None:
    rows, labels = data()
    rows = rows.copy()
    rows[::20, 0] = np.nan
    with pytest.raises(CheckFailed, match="DecisionTreeClassifier") as refused:
        compiled(DecisionTreeClassifier(random_state=0).fit(rows, labels), rows, labels)
    assert "LightGBM" in refused.value.hint


def test_what_has_no_converter_is_refused_with_the_reason() -> None:
    class Unknown(LogisticRegression):
        pass

    rows, labels = data()
    with pytest.raises(CheckFailed, match=r"Unknown.*conversion to ONNX fails"):
        compiled(Unknown().fit(rows, labels), rows, labels)


@dataclass
class Shifted:
    """A runtime whose scores are off by `by`, for one row in a thousand."""

    estimator: Any
    by: float

    def score(self, matrix: np.ndarray) -> np.ndarray:
        found = scores(self.estimator, matrix)
        found[::1000] += self.by
        return found


@pytest.mark.parametrize(("by", "passed"), [(0.0, True), (0.9e-5, True), (1.1e-5, False), (float("nan"), False)])
def test_the_largest_difference_that_passes_is_one_in_100000(by: float, passed: bool) -> None:
    rows, labels = data()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    found = scores(estimator, rows)
    away = rows[np.abs(found - 0.5) > 1e-3]
    proof = prove(estimator, Shifted(estimator, by), away, positives=1)
    assert proof.passed is passed and proof.rows == len(away)


def test_equal_order_is_about_sides_of_a_threshold() -> None:
    native = np.array([0.2, 0.499995, 0.5000000001, 0.7])
    assert equal_order(native, native, (0.5,))
    assert equal_order(native, np.array([0.2, 0.499996, 0.4999999999, 0.7]), (0.5,))
    assert not equal_order(native, np.array([0.2, 0.500001, 0.5000000001, 0.7]), (0.5,))
    assert not equal_order(native, np.array([0.2, 0.499995, 0.5, 0.6999]), (0.5, 0.69999))


def test_rows_stand_at_every_threshold_and_one_float32_beside() -> None:
    rows, labels = data()
    model = boosted(num_leaves=4).fit(rows, labels)
    placed = threshold_rows(model, rows)
    splits = sorted(set(lightgbm_thresholds(model)))
    assert placed.shape == (3 * len(splits), rows.shape[1])
    for at, (feature, threshold) in enumerate(splits):
        below, on, above = placed[3 * at : 3 * at + 3, feature]
        assert below < on <= threshold < above
        assert on == float32_below(threshold) and np.float32(above) == np.nextafter(np.float32(on), np.float32(np.inf))


@pytest.mark.parametrize("value", [0.1, 12.345, 3.5, np.nextafter(3.5, 4), -0.1, 1e-35, 1.7e9 + 1, 3e38, 1e300])
def test_float32_below_is_the_largest_that_is_not_above(value: float) -> None:
    below = float32_below(value)
    with np.errstate(over="ignore"):
        assert below <= value < float(np.nextafter(np.float32(below), np.float32(np.inf)))
