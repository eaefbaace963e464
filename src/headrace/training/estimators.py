"""Fitted estimators: how they are stored, read again and asked for scores. Used in compute children only.

A pickle runs code when it is read. The consent to that is given by training the model here: only estimators that a
training child of this installation stored are read, and only in a child, never in a process that serves.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.engines.context import Context
from headrace.features.backfill import matrix
from headrace.features.types import FeatureSet
from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.training.answers import AnswerKind, Labels, answers, kind_of, shown_labels, told_apart
from headrace.training.types import ModelSpec

Matrix = npt.NDArray[np.float64]
PACKAGES = ("headrace", "numpy", "polars", "scikit-learn", "lightgbm", "optuna")


def matrix_of(frame: pl.DataFrame, features: FeatureSet) -> Matrix:
    """float64 [n, features] in model order, a null is NaN. InvalidInput names a missing column."""
    missing = [column for column in features.columns if column not in frame.columns]
    if missing:
        raise InvalidInput(f"the dataset has no column `{missing[0]}`; it has {', '.join(frame.columns)}",
                           hint="build the dataset again with the model's features")  # fmt: skip
    return np.ascontiguousarray(matrix(features, frame))


def fit(spec: ModelSpec, rows: Matrix, labels: Labels, parameters: Mapping[str, Any], seed: int) -> Any:
    """Call the model's function after seeding Python's and NumPy's generators. CheckFailed when the rows hold one class
    only, or when what comes back does not answer as such labels need."""
    if not told_apart(labels):
        raise CheckFailed(f"the {len(labels)} training rows of `{spec.name}` hold {shown_labels(labels)}",
                          hint="train on a longer time, with labels that differ")  # fmt: skip
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the generator that scikit-learn uses by default
    estimator = spec.function(rows, labels, **parameters)
    check_estimator(spec, estimator, rows[:16], kind_of(labels))
    return estimator


def check_estimator(spec: ModelSpec, estimator: Any, rows: Matrix, kind: AnswerKind) -> None:
    """CheckFailed unless the estimator gives a probability, a number or a class for each row."""
    method = "predict_proba" if kind == "probability" else "predict"
    wanted = {"probability": "probabilities", "number": "numbers", "class": "classes"}[kind]
    try:
        shown = answers(estimator, rows, kind)
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckFailed(f"{spec.where}: what `{spec.name}` returned gives no {wanted}: {error}",
                          hint=f"return the fitted estimator, one with `{method}`: `return Model().fit(rows, labels)`",
                          ) from None  # fmt: skip
    if kind == "class":
        return
    if kind == "number" and not np.isfinite(shown).all():
        raise CheckFailed(f"{spec.where}: `{spec.name}` gives no finite numbers: {shown[:3].tolist()}",
                          hint="mend what it makes of such rows")  # fmt: skip
    if kind == "probability" and not (np.isfinite(shown).all() and (shown >= 0).all() and (shown <= 1).all()):
        raise CheckFailed(f"{spec.where}: `{spec.name}` gives scores outside [0, 1]: {shown[:3].tolist()}",
                          hint="scores are probabilities of the positive class")  # fmt: skip


def scores(estimator: Any, rows: Matrix) -> Matrix:
    """float64 [n]: the probability of the positive class."""
    return answers(estimator, rows, "probability")


def store(ctx: Context, spec: ModelSpec, estimator: Any) -> dict[str, str]:
    """Artifact digests: `estimator`, a pickle, and for a LightGBM model also its text, `lightgbm`."""
    try:
        content = pickle.dumps(estimator, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckFailed(f"{spec.where}: what `{spec.name}` returned cannot be stored: {error}",
                          hint="define its classes and functions at the top level of a module") from None  # fmt: skip
    artifacts = {"estimator": ctx.blobs.put(ctx.system, content)}
    text = lightgbm_text(estimator)
    if text is not None:
        artifacts["lightgbm"] = ctx.blobs.put(ctx.system, text.encode())
    return artifacts


def read(ctx: Context, digest: str) -> Any:
    """The estimator that `store` stored; its digest is verified before a byte is interpreted."""
    return pickle.loads(ctx.blobs.get(ctx.system, digest))


def lightgbm_text(estimator: Any) -> str | None:
    """LightGBM's own text of a fitted `LGBMClassifier`, None for any other estimator."""
    if "lightgbm" not in sys.modules:
        return None
    from lightgbm import LGBMClassifier

    if not isinstance(estimator, LGBMClassifier):
        return None
    text: str = estimator.booster_.model_to_string()
    return text


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a training gives."""
    found = {"python": sys.version.split()[0], "platform": sys.platform}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
