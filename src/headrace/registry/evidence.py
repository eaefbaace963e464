"""What is kept beside a version so that serving can check it and monitoring can compare with it: JSON blobs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from headrace.engines.context import Context
from headrace.kernel.errors import HeadraceError
from headrace.registry.runtimes import Runtime
from headrace.statistics.histograms import bin_counts, quantile_edges
from headrace.statistics.metrics import average_precision, log_loss
from headrace.training.answers import Labels
from headrace.training.estimators import Matrix, fit, scores
from headrace.training.types import ModelSpec

GOLDEN_ROWS = 32


def evenly_spaced(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """At most `most` of the indices 0 .. count - 1, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def golden(ctx: Context, runtime: Runtime, rows: Matrix) -> str:
    """The digest of up to 32 evenly spaced rows with the score that each gets alone; null for NaN."""
    chosen = rows[evenly_spaced(len(rows), GOLDEN_ROWS)]
    scored = np.concatenate([runtime.score(row.reshape(1, -1)) for row in chosen])
    return _store(ctx, {"rows": chosen.tolist(), "scores": scored.tolist()})


def reference(ctx: Context, features: tuple[str, ...], rows: Matrix, scored: Matrix | None) -> str:
    """The digest of the histograms of the training rows, by feature, and of the scores of rows the model has not seen.

    Scores of the rows it was fitted on are more confident than those it will give: they would show drift from the first
    day. Without scores of unseen rows (None) the score is not watched.
    """
    histograms = {name: _histogram(rows[:, column]) for column, name in enumerate(features)}
    return _store(ctx, {"features": histograms, "score": None if scored is None else _histogram(scored)})


def cross_fitted(spec: ModelSpec, rows: Matrix, labels: Labels, parameters: dict[str, Any], seed: int) -> dict[str, float]:
    """What the version is expected to lose, for a run that was never tested: metrics of each row's score by a model of the
    same parameters fitted on the other half of the rows. Empty when a half holds one class only.
    """
    half = np.random.default_rng(seed).permutation(len(rows)) % 2 == 0
    scored = np.empty(len(rows))
    try:
        for fold in (half, ~half):
            scored[fold] = scores(fit(spec, rows[~fold], labels[~fold], parameters, seed), rows[fold])
    except HeadraceError:
        return {}
    metrics = {"log_loss": log_loss(labels, scored), "average_precision": average_precision(labels, scored)}
    return {f"cross_fitted.{name}": value for name, value in metrics.items()}


def _histogram(values: Matrix) -> dict[str, list[float] | list[int]]:
    edges = quantile_edges(values)
    return {"edges": edges.tolist(), "counts": bin_counts(values, edges).tolist()}


def _store(ctx: Context, content: dict[str, Any]) -> str:
    """NaN becomes null."""
    return ctx.blobs.put(ctx.system, msgspec.json.encode(content))
