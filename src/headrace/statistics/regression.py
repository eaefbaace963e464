"""Metrics of predicted numbers, as scikit-learn defines them. `labels` and `predicted` are float64 [n], n > 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mean_absolute_error(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    return float(np.mean(np.abs(np.asarray(labels, np.float64) - np.asarray(predicted, np.float64))))


def root_mean_squared_error(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    return float(np.sqrt(np.mean((np.asarray(labels, np.float64) - np.asarray(predicted, np.float64)) ** 2)))


def r_squared(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """1 - (sum of squared errors) / (sum of squared deviations of the labels from their mean); NaN for constant labels."""
    y = np.asarray(labels, np.float64)
    deviations = float(np.sum((y - y.mean()) ** 2))
    errors = float(np.sum((y - np.asarray(predicted, np.float64)) ** 2))
    return 1 - errors / deviations if deviations else float("nan")
