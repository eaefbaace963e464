"""The parity proof: does the compiled model answer like the fitted one? (docs/adr: what "equal order" means)"""

from __future__ import annotations

from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from headrace.registry.evidence import evenly_spaced
from headrace.registry.graphs import float32_below, lightgbm_thresholds, split
from headrace.registry.types import Proof
from headrace.training.estimators import Matrix, scores

TOLERANCE = 1e-5
ROWS = 50_000
"""Real rows that a proof takes at most, evenly spaced over the dataset; it takes all of a smaller one."""
THRESHOLDS = 2_000
RESOLUTION = 1e-6
"""A row this near to a threshold may lie on either side: float32 arithmetic cannot tell."""


def proof_rows(rows: Matrix) -> Matrix:
    """At most `ROWS` of the dataset's rows, evenly spaced."""
    chosen: Matrix = rows[evenly_spaced(len(rows), ROWS)]
    return chosen


def prove(estimator: Any, runtime: Any, rows: Matrix, positives: int) -> Proof:
    """Compare fitted with compiled on real rows and at the trees' thresholds.

    The thresholds of a decision are 0.5 and the score that as many of the rows exceed as the dataset has positives.
    """
    native, compiled = scores(estimator, rows), runtime.score(rows)
    placed = threshold_rows(estimator, rows)
    if len(placed):
        native_placed, compiled_placed = scores(estimator, placed), runtime.score(placed)
    else:
        native_placed = compiled_placed = np.empty(0)
    decisions = (0.5, alert_threshold(native, positives))
    both = np.concatenate([native, native_placed]), np.concatenate([compiled, compiled_placed])
    difference = np.abs(both[0] - both[1])
    largest = float(difference.max()) if np.isfinite(difference).all() else 1.0
    equal = equal_order(*both, decisions)
    return Proof(len(rows), len(placed), largest, equal, largest <= TOLERANCE and equal, decisions)


def equal_order(native: Matrix, compiled: Matrix, thresholds: tuple[float, ...]) -> bool:
    """Whether no row lies on one side of a threshold by the fitted model and on the other by the compiled one, rows
    within `RESOLUTION` of it left out."""
    return not any((((native >= t) != (compiled >= t)) & (np.abs(native - t) > RESOLUTION)).any() for t in thresholds)


def alert_threshold(native: Matrix, positives: int) -> float:
    """Half-way between the scores of rank `positives` and the next."""
    ordered = np.sort(native)[::-1]
    k = min(max(positives, 1), len(ordered) - 1)
    return float((ordered[k - 1] + ordered[k]) / 2)


def threshold_rows(estimator: Any, rows: Matrix) -> Matrix:
    """Real rows with one feature moved to a split of the fitted trees: the largest float32 not above its threshold, and
    the float32 next above and below. Empty where no tree exposes thresholds of the model's own features.

    The unit is that of float32, the type in which the graph compares: no float32 graph tells two float64 neighbours
    apart. Which values really occur is what the real rows prove.
    """
    splits = sorted(set(_splits(estimator)))
    if not splits:
        return np.empty((0, rows.shape[1]))
    chosen = [splits[i] for i in evenly_spaced(len(splits), THRESHOLDS)]
    features = np.repeat(np.array([feature for feature, _ in chosen]), 3)
    at = np.array([float32_below(threshold) for _, threshold in chosen], np.float32)
    around = np.stack([np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))], axis=1).ravel()
    placed = rows[np.arange(len(features)) % len(rows)].copy()
    placed[np.arange(len(features)), features] = around.astype(np.float64)
    finite: Matrix = placed[np.isfinite(around)]
    return finite


def _splits(estimator: Any) -> list[tuple[int, float]]:
    head, model = split(estimator)
    if head is not None:
        return []
    if isinstance(model, LGBMClassifier):
        return list(lightgbm_thresholds(model))
    if isinstance(model, DecisionTreeClassifier):
        trees = [model]
    elif isinstance(model, RandomForestClassifier | ExtraTreesClassifier):
        trees = list(model.estimators_)
    elif isinstance(model, GradientBoostingClassifier):
        trees = list(model.estimators_.ravel())
    else:
        return []
    found: list[tuple[int, float]] = []
    for tree in trees:
        features = tree.tree_.feature
        inner = features >= 0
        found += zip(features[inner].tolist(), tree.tree_.threshold[inner].tolist(), strict=True)
    return found
