"""Entries of compute children that compile a run's estimator or look into an artifact that came as a file."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from headrace.data.datasets import load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.registry.compiling import compile_estimator
from headrace.registry.evidence import cross_fitted, golden, reference
from headrace.registry.runtimes import Runtime, load_runtime
from headrace.training import runs
from headrace.training.answers import labels_of
from headrace.training.estimators import Matrix, matrix_of, read
from headrace.training.jobs import open_world
from headrace.training.types import ModelSpec


def compile_run(arguments: dict[str, Any]) -> dict[str, Any]:
    """Compile the estimator of a run; return the version's facts."""
    ctx = open_world(arguments)
    run = runs.run(ctx, arguments["run"])
    spec = ctx.specs.get(ModelSpec, run.model)
    frame = load(ctx, run.dataset)
    rows, labels = matrix_of(frame, spec.features), labels_of(frame)
    compiled = compile_estimator(run.model, read(ctx, run.artifacts["estimator"]), rows, int(labels.sum()))
    unseen, metrics = None, {}
    if "test_scores" in run.artifacts:
        unseen = np.frombuffer(ctx.blobs.get(ctx.system, run.artifacts["test_scores"]), np.float64)
    else:
        metrics = cross_fitted(spec, rows, labels, run.parameters, run.seed)
    return {
        "engine": compiled.engine,
        "artifact": ctx.blobs.put(ctx.system, compiled.artifact),
        "proof": msgspec.to_builtins(compiled.proof),
        "golden": golden(ctx, compiled.runtime, rows),
        "reference": reference(ctx, spec.features.columns, rows, unseen),
        "metrics": {**run.metrics, **metrics},
    }


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


def _answers(runtime: Runtime, rows: Matrix) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows the artifact scores without an error: it may be a model that fails on some."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 512):
        block = slice(start, start + 512)
        try:
            runtime.score(rows[block])
            found[block] = True
        except Exception:  # noqa: BLE001 - a foreign graph raises anything; which rows it answers is the question
            found[block] = [_answers_one(runtime, row) for row in rows[block]]
    return found


def _answers_one(runtime: Runtime, row: Matrix) -> bool:
    try:
        runtime.score(row.reshape(1, -1))
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
