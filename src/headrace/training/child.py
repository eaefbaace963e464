"""Entries of compute children that train, search and evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headrace.data.datasets import load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import format_time
from headrace.statistics.metrics import average_precision, log_loss, roc_auc
from headrace.training import runs
from headrace.training.code import check_unchanged, source_of
from headrace.training.estimators import Labels, Matrix, environment, fit, labels_of, matrix_of, read, scores, store
from headrace.training.jobs import open_world
from headrace.training.search import Suggestion, best, suggestions
from headrace.training.types import ModelSpec
from headrace.training.windows import judging_rows, time_column


def _opened(arguments: dict[str, Any]) -> tuple[Context, ModelSpec, pl.DataFrame]:
    ctx = open_world(arguments)
    spec = ctx.specs.get(ModelSpec, arguments["model"])
    check_unchanged(spec, arguments["code_hash"])
    return ctx, spec, load(ctx, arguments["dataset"])


def _outputs(ctx: Context, spec: ModelSpec, estimator: Any, labels: Labels) -> dict[str, Any]:
    """What `runs.Outputs` takes."""
    artifacts = {**store(ctx, spec, estimator), "source": ctx.blobs.put(ctx.system, source_of(spec))}
    metrics = {"train.rows": float(len(labels)), "train.positives": float(labels.sum())}
    return {"metrics": metrics, "artifacts": artifacts, "environment": environment()}


def train(arguments: dict[str, Any]) -> dict[str, Any]:
    """Fit one model on its dataset."""
    ctx, spec, frame = _opened(arguments)
    rows, labels = matrix_of(frame, spec.features), labels_of(frame)
    estimator = fit(spec, rows, labels, arguments["parameters"], arguments["seed"])
    return _outputs(ctx, spec, estimator, labels)


def search(arguments: dict[str, Any]) -> dict[str, Any]:
    """Run every trial as a run of its own, then fit the best parameters on the whole dataset."""
    ctx, spec, frame = _opened(arguments)
    rows, labels = matrix_of(frame, spec.features), labels_of(frame)
    late = (frame[time_column(ctx, spec)].dt.epoch("us") >= arguments["holdout_from"]).to_numpy()
    positives = int(labels[late].sum())
    if not 0 < positives < late.sum():
        start = format_time(arguments["holdout_from"])
        raise CheckFailed(f"of the {late.sum()} rows from {start} on {positives} are positive: they cannot judge a trial",
                          hint="choose an earlier start of the hold-out, or a longer dataset")  # fmt: skip
    tried: list[Suggestion] = []
    for suggestion in suggestions(spec, trials=arguments["trials"], seed=arguments["seed"]):
        suggestion.value = _trial(ctx, spec, suggestion, (rows, labels, late), arguments)
        runs.log_metrics(ctx, arguments["run"], {"trial.average_precision": suggestion.value}, step=len(tried))
        tried.append(suggestion)
    chosen = best(tried)
    estimator = fit(spec, rows, labels, chosen.parameters, arguments["seed"])
    outputs = _outputs(ctx, spec, estimator, labels)
    judged = {"holdout.average_precision": chosen.value, "holdout.rows": float(late.sum())}
    return {**outputs, "parameters": chosen.parameters, "metrics": {**outputs["metrics"], **judged}}


def _trial(
    ctx: Context,
    spec: ModelSpec,
    suggestion: Suggestion,
    data: tuple[Matrix, Labels, np.ndarray[Any, np.dtype[np.bool_]]],
    arguments: dict[str, Any],
) -> float:
    rows, labels, late = data
    seed, parent = arguments["seed"], arguments["run"]
    inputs = runs.Inputs(spec.name, arguments["dataset"], arguments["code_hash"], seed, suggestion.parameters, parent)
    with runs.recording(ctx, inputs) as run_id:
        estimator = fit(spec, rows[~late], labels[~late], suggestion.parameters, seed)
        value = average_precision(labels[late], scores(estimator, rows[late]))
        metrics = {"holdout.average_precision": value, "train.rows": float((~late).sum())}
        runs.finish(ctx, run_id, runs.Outputs(metrics, environment=environment()))
    return value


def evaluate(arguments: dict[str, Any]) -> dict[str, Any]:
    """Score a test window with a run's estimator; return the metrics, and the digest of the scores (float64 bytes)."""
    ctx = open_world(arguments)
    spec = ctx.specs.get(ModelSpec, arguments["model"])
    asking, rows = judging_rows(ctx, spec, **arguments["window"])
    labels, asked = labels_of(rows), asking["_at"].dt.epoch("us") >= arguments["window"]["start"]
    scored = scores(read(ctx, arguments["estimator"]), matrix_of(rows, spec.features))
    metrics = {
        "auc_roc": roc_auc(labels, scored),
        "average_precision": average_precision(labels, scored),
        "log_loss": log_loss(labels, scored),
        "rows": float(len(labels)),
        "positives": float(labels.sum()),
    }
    kept = ctx.blobs.put(ctx.system, np.ascontiguousarray(scored, np.float64).tobytes())
    if spec.evaluate is None:
        return {"metrics": metrics, "scores": kept}
    column = np.full(len(asking), np.nan)
    column[asked.to_numpy()] = scored
    told = asking.with_columns(pl.Series("score", column).fill_nan(None))
    return {"metrics": {**metrics, **spec.evaluate(told, told.filter(asked))}, "scores": kept}
