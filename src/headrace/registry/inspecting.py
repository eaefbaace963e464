"""Entry of compute children that look into an artifact that came as a file: no trainer is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.data.datasets import load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.registry.evidence import golden, reference
from headrace.registry.runtimes import Runtime, load_runtime
from headrace.training.estimators import Matrix, matrix_of
from headrace.training.jobs import open_world
from headrace.training.types import ModelSpec


def inspect_artifact(arguments: dict[str, Any]) -> dict[str, Any]:
    """Load an ONNX file, check it against the model's features, and score rows of the dataset (if any) with it."""
    ctx = open_world(arguments)
    spec = ctx.specs.get(ModelSpec, arguments["model"])
    columns = spec.features.columns
    runtime = load_runtime("onnx", ctx.blobs.get(ctx.system, arguments["artifact"]))
    rows = _rows(ctx, spec, arguments["dataset"])
    answered = rows[_answers(runtime, rows)] if len(rows) else np.eye(len(columns))
    if not len(answered):
        raise CheckFailed(f"the artifact answers none of {len(rows)} rows of `{arguments['dataset']}`",
                          hint=f"it must take float32 [n, {len(columns)}], in this order: {', '.join(columns)}")  # fmt: skip
    return {
        "golden": golden(ctx, runtime, answered),
        "reference": reference(ctx, columns, rows, runtime.score(answered) if len(rows) else None),
    }


def _rows(ctx: Context, spec: ModelSpec, dataset: str | None) -> Matrix:
    if dataset is None:
        return np.empty((0, len(spec.features.columns)))
    return matrix_of(load(ctx, dataset), spec.features)


def _answers(runtime: Runtime, rows: Matrix, together: int = 512) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows the artifact scores without an error: it may be a model that fails on some."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), together):
        block = slice(start, start + together)
        try:
            runtime.score(rows[block])
        except CheckFailed:
            found[block] = _answers(runtime, rows[block], together=1) if together > 1 else False
        else:
            found[block] = True
    return found
