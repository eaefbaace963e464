"""What a model answers, by its labels: a probability (0 and 1), a number, or a class (texts); and how good the answers are."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl

from headrace.statistics.metrics import average_precision, log_loss, roc_auc
from headrace.statistics.regression import mean_absolute_error, r_squared, root_mean_squared_error

AnswerKind = Literal["probability", "number", "class"]
Labels = np.ndarray[Any, np.dtype[Any]]
"""int8 [n] for probabilities, float64 [n] for numbers, object [n] (texts) for classes."""


def labels_of(frame: pl.DataFrame) -> Labels:
    """The column `label` as a training function takes it."""
    column = frame["label"]
    if column.dtype in (pl.Int8, pl.Boolean):
        return column.cast(pl.Int8).to_numpy()
    if column.dtype == pl.String:
        return column.to_numpy().astype(object)
    return column.cast(pl.Float64).to_numpy()


def kind_of(labels: Labels) -> AnswerKind:
    if labels.dtype == np.int8:
        return "probability"
    return "class" if labels.dtype == object else "number"


def answers(estimator: Any, rows: np.ndarray[Any, np.dtype[np.float64]], kind: AnswerKind) -> Labels:
    """[n]: the probability of the positive class, the predicted number, or the predicted class.

    ValueError, TypeError or AttributeError when the estimator gives something else.
    """
    if kind == "probability":
        probabilities = np.asarray(estimator.predict_proba(rows), np.float64)
        if probabilities.ndim != 2 or probabilities.shape[1] != 2:
            raise ValueError(f"predict_proba has the shape {probabilities.shape}, not ({len(rows)}, 2)")
        return np.ascontiguousarray(probabilities[:, 1])
    predicted = np.asarray(estimator.predict(rows), object if kind == "class" else np.float64)
    if predicted.shape != (len(rows),):
        raise ValueError(f"predict has the shape {predicted.shape}, not ({len(rows)},)")
    return predicted


def metrics(labels: Labels, answered: Labels) -> dict[str, float]:
    """The figures of a test: by the kind of the labels."""
    kind = kind_of(labels)
    rows = {"rows": float(len(labels))}
    if kind == "probability":
        return {
            "auc_roc": roc_auc(labels, answered), "average_precision": average_precision(labels, answered),
            "log_loss": log_loss(labels, answered), **rows, "positives": float(labels.sum()),
        }  # fmt: skip
    if kind == "class":
        return {"accuracy": float(np.mean(labels == answered)), **rows, "classes": float(len(set(labels.tolist())))}
    errors = {"mae": mean_absolute_error(labels, answered), "rmse": root_mean_squared_error(labels, answered)}
    return {**errors, "r2": r_squared(labels, answered), **rows}


def objective(labels: Labels, answered: Labels) -> tuple[str, float, float]:
    """(metric, its value, what a search maximises)."""
    name = {"probability": "average_precision", "class": "accuracy", "number": "rmse"}[kind_of(labels)]
    value = metrics(labels, answered)[name]
    return name, value, -value if name == "rmse" else value


def told_apart(labels: Labels) -> bool:
    """Whether the labels have at least two values, so that there is something to learn or to judge."""
    return len(labels) > 0 and bool((labels != labels[0]).any())


def shown_labels(labels: Labels) -> str:
    """How the labels are spread, for a message: `3 positive labels`, `1 value only`."""
    if kind_of(labels) == "probability":
        return f"{int(labels.sum())} positive labels"
    return "no label" if not len(labels) else f"labels of the one value {labels[0]!r}"
