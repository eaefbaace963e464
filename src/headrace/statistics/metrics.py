"""Metrics of binary classifiers, as scikit-learn defines them. `labels` are 0/1 [n], `scores` float64 [n]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


def _arrays(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    return np.asarray(labels, np.float64).ravel(), np.asarray(scores, np.float64).ravel()


def _at_thresholds(labels: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """True positives and predicted positives at each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return np.cumsum(labels[order])[last], (last + 1).astype(np.float64)


def roc_auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > that of a negative) + half the ties. NaN with one class."""
    y, s = _arrays(labels, scores)
    positives = y.sum()
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    true_positives, predicted = _at_thresholds(y, s)
    tpr = np.concatenate([[0.0], true_positives / positives])
    fpr = np.concatenate([[0.0], (predicted - true_positives) / negatives])
    return float(np.sum((fpr[1:] - fpr[:-1]) * (tpr[1:] + tpr[:-1]) / 2))


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """sum over thresholds of (recall_k - recall_{k-1}) precision_k, without interpolation. NaN without positives."""
    y, s = _arrays(labels, scores)
    positives = y.sum()
    if positives == 0:
        return float("nan")
    true_positives, predicted = _at_thresholds(y, s)
    gained = np.diff(true_positives, prepend=0.0) / positives
    return float(np.sum(gained * true_positives / predicted))


def log_losses(labels: npt.ArrayLike, scores: npt.ArrayLike, *, eps: float = EPS) -> Floats:
    """The log loss of each row (nats); scores are cut to [eps, 1 - eps]."""
    y, s = _arrays(labels, scores)
    s = np.clip(s, eps, 1 - eps)
    losses: Floats = -(y * np.log(s) + (1 - y) * np.log1p(-s))
    return losses


def log_loss(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The mean log loss (nats); NaN without rows."""
    losses = log_losses(labels, scores)
    return float(losses.mean()) if len(losses) else float("nan")
