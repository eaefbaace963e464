"""The records of the registry room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

Engine = Literal["onnx", "lightgbm"]
INPUT, SCORE = "rows", "score"
"""What a compiled graph calls its input and its output."""
VersionNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A number that a version can have: what the catalog's column holds."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Compiled against fitted: on `rows` real rows of the training dataset in float64, and on `threshold_rows` rows placed
    at the thresholds of its trees. `max_difference` is over both; `equal_order`: no row lies on another side of one of
    `thresholds`. When ONNX did not pass, the native engine serves; it differs from the fitted by `native_difference`."""

    rows: int
    threshold_rows: int
    max_difference: float
    equal_order: bool
    passed: bool
    thresholds: tuple[float, ...]
    reason: str = ""
    native_difference: float | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """An immutable version of a model. `artifact`, `golden`, `reference` are blob digests: what serves, 32 real rows with
    the scores of what serves, and the histograms of the training rows. `features` is the order of its input.
    `proof` is None for an artifact that came as a file. `approved_by` names the last who approved it
    by now; `headrace why` tells who had before a prediction."""

    name: str
    number: int
    engine: Engine
    artifact: str
    features: tuple[str, ...]
    definition_hashes: dict[str, str]
    dataset: str | None
    run: str | None
    proof: Proof | None
    golden: str
    reference: str
    signature: dict[str, Any]
    content_hash: str
    created_at: str
    metrics: dict[str, float] = field(default_factory=dict)
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved a version, when and why."""

    by: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Edge:
    """`child` was made from `parent`; both are such as `model:boosting@3`, `run:ID`, `dataset:boosting@0`, `code:HASH`."""

    child: str
    parent: str
