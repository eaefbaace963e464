"""Entries of compute children that train, search and evaluate."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.data.datasets import load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import format_time
from headrace.training import runs
from headrace.training.answers import Labels, answers, kind_of, labels_of, metrics, objective, told_apart
from headrace.training.code import check_unchanged, source_of
from headrace.training.estimators import Matrix, environment, fit, matrix_of, read, store
from headrace.training.jobs import open_world
from headrace.training.search import Suggestion, best, suggestions
from headrace.training.types import ModelSpec
from headrace.training.windows import judging_rows, time_column

Fold = tuple[np.ndarray[Any, np.dtype[np.bool_]], np.ndarray[Any, np.dtype[np.bool_]]]
"""Rows to fit on and rows to judge on, bool [n] each."""


def _opened(arguments: dict[str, Any]) -> tuple[Context, ModelSpec, pl.DataFrame]:
    ctx = open_world(arguments)
    spec = ctx.specs.get(ModelSpec, arguments["model"])
    check_unchanged(spec, arguments["code_hash"])
    return ctx, spec, load(ctx, arguments["dataset"])


def _outputs(ctx: Context, spec: ModelSpec, estimator: Any, labels: Labels) -> dict[str, Any]:
    """What `runs.Outputs` takes."""
    artifacts = {**store(ctx, spec, estimator), "source": ctx.blobs.put(ctx.system, source_of(spec))}
    told = {"train.rows": float(len(labels))}
    if kind_of(labels) == "probability":
        told["train.positives"] = float(labels.sum())
    return {"metrics": told, "artifacts": artifacts, "environment": environment()}


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
    folds = _folds(frame[time_column(ctx, spec)].dt.epoch("us").to_numpy(), labels, arguments["folds"])
    if not folds:
        starts = ", ".join(format_time(start) for start in arguments["folds"])
        raise CheckFailed(f"of the rows from {starts} on, or of those before, all have one label: they cannot judge a trial",
                          hint="train on a longer time")  # fmt: skip
    held = float(sum(late.sum() for _, late in folds))
    tried: list[Suggestion] = []
    judged: list[dict[str, float]] = []
    for suggestion in suggestions(spec, trials=arguments["trials"], seed=arguments["seed"]):
        name, value, suggestion.value = _trial(ctx, spec, suggestion, (rows, labels, folds), arguments)
        runs.log_metrics(ctx, arguments["run"], {f"trial.{name}": value}, step=len(tried))
        judged.append({f"holdout.{name}": value, "holdout.rows": held})
        tried.append(suggestion)
    chosen = best(tried)
    estimator = fit(spec, rows, labels, chosen.parameters, arguments["seed"])
    outputs = _outputs(ctx, spec, estimator, labels)
    told = {**outputs["metrics"], **judged[tried.index(chosen)]}
    return {**outputs, "parameters": chosen.parameters, "metrics": told}


def _folds(at: np.ndarray[Any, np.dtype[np.int64]], labels: Labels, starts: list[int]) -> list[Fold]:
    """(rows before, rows from then to the next fold) of each fold that can be fitted and can judge."""
    found = []
    for start, following in pairwise([*starts, int(at.max(initial=0)) + 1]):
        early, late = at < start, (at >= start) & (at < following)
        if told_apart(labels[early]) and told_apart(labels[late]):
            found.append((early, late))
    return found


def _trial(
    ctx: Context, spec: ModelSpec, suggestion: Suggestion, data: tuple[Matrix, Labels, list[Fold]], arguments: dict[str, Any]
) -> tuple[str, float, float]:
    """The name of the metric, its mean over the folds, and what is to be maximised."""
    rows, labels, folds = data
    seed, parent = arguments["seed"], arguments["run"]
    inputs = runs.Inputs(spec.name, arguments["dataset"], arguments["code_hash"], seed, suggestion.parameters, parent)
    with runs.recording(ctx, inputs) as run_id:
        found = []
        for number, (early, late) in enumerate(folds):
            estimator = fit(spec, rows[early], labels[early], suggestion.parameters, seed)
            found.append(objective(labels[late], answers(estimator, rows[late], kind_of(labels))))
            runs.log_metrics(ctx, run_id, {f"fold.{found[-1][0]}": found[-1][1]}, step=number)
        name = found[0][0]
        value, wanted = (float(np.mean([one[place] for one in found])) for place in (1, 2))
        told = {f"holdout.{name}": value, "train.rows": float(folds[-1][0].sum())}
        runs.finish(ctx, run_id, runs.Outputs(told, environment=environment()))
    return name, value, wanted


def evaluate(arguments: dict[str, Any]) -> dict[str, Any]:
    """Judge a test window with a run's estimator; return the metrics, and the digest of the answers: float64 bytes, for
    classes a JSON list."""
    ctx = open_world(arguments)
    spec = ctx.specs.get(ModelSpec, arguments["model"])
    asking, rows = judging_rows(ctx, spec, **arguments["window"])
    labels, asked = labels_of(rows), asking["_at"].dt.epoch("us") >= arguments["window"]["start"]
    kind = kind_of(labels)
    answered = answers(read(ctx, arguments["estimator"]), matrix_of(rows, spec.features), kind)
    content = msgspec.json.encode(answered.tolist()) if kind == "class" else np.ascontiguousarray(answered).tobytes()
    kept, found = ctx.blobs.put(ctx.system, content), metrics(labels, answered)
    if spec.evaluate is None:
        return {"metrics": found, "scores": kept}
    place = pl.Series(np.flatnonzero(asked.to_numpy()))
    column = pl.Series("score", [None] * len(asking), dtype=pl.String if kind == "class" else pl.Float64)
    told = asking.with_columns(column.scatter(place, pl.Series(answered.tolist(), dtype=column.dtype)))
    return {"metrics": {**found, **spec.evaluate(told, told.filter(asked))}, "scores": kept}
