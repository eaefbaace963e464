"""The records of the training room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.features.types import FeatureSet, Label, Spine


@dataclass(frozen=True)
class ModelSpec:
    """A declared model: `function(rows, labels, **parameters)` returns a fitted estimator with `predict_proba`, or with
    `predict` when its labels are numbers or texts.

    `rows` is float64 [n, features] in feature order (null is NaN), `labels` [n] are int8 0 and 1 of labels that are true or
    false, float64 of numbers, object of texts.
    `search` maps parameter names to `(low, high)` (int or float) or a list of choices.
    `evaluate(history, test)` may return more test metrics; both are Polars frames of asking rows with `score`
    (null outside the test window) and `label`.
    """

    name: str
    function: Callable[..., Any]
    features: FeatureSet
    label: Label
    spine: Spine
    parameters: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Callable[..., dict[str, float]] | None = None
    doc: str = ""
    where: str = ""
    kind: Literal["model"] = "model"


@dataclass(frozen=True, slots=True)
class Run:
    """A tracked run. `dataset` is `name@version`; `artifacts` maps a name to a blob digest; `metrics` has the value at
    the last step of each. `code_hash` is the SHA-256 of the file that holds the model's function."""

    id: str
    model: str
    status: Literal["running", "finished", "failed"]
    parameters: dict[str, Any]
    metrics: dict[str, float]
    dataset: str
    code_hash: str
    seed: int
    environment: dict[str, str]
    artifacts: dict[str, str]
    started_at: str
    ended_at: str | None
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class MetricStep:
    """One value of a metric: of a round, an epoch, a trial."""

    step: int
    value: float
