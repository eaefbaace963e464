from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from headrace.statistics.metrics import average_precision, log_loss, roc_auc

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.1000001, 0.5, 0.9, 1.0])), min_size=2, max_size=60)


@given(ROWS)
@settings(deadline=None, max_examples=80)
def test_metrics_agree_with_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    labels = np.array([r[0] for r in rows], int)
    scores = np.array([r[1] for r in rows])
    if labels.all() or not labels.any():
        assert math.isnan(roc_auc(labels, scores))
        return
    assert roc_auc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(oracle.average_precision_score(labels, scores), abs=1e-12)
    assert log_loss(labels, scores) == pytest.approx(oracle.log_loss(labels, scores), rel=1e-9)


def test_large_samples_agree_too() -> None:
    rng = np.random.default_rng(5)
    scores = np.round(rng.uniform(size=20_000), 3)
    labels = rng.uniform(size=20_000) < scores**3
    assert roc_auc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(oracle.average_precision_score(labels, scores), abs=1e-12)


def test_nothing_to_measure_is_nan_not_zero() -> None:
    assert math.isnan(log_loss([], []))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))
