"""Challenger against champion on the same recent rows with mature labels."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import polars as pl

from headrace.engines.context import Context
from headrace.features.training_set import training_set
from headrace.features.types import SnapshotSpine
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import format_time
from headrace.monitoring.labels import CERTAIN
from headrace.monitoring.types import Comparison
from headrace.registry import versions
from headrace.registry.runtimes import load_runtime
from headrace.serving.types import ServiceSpec
from headrace.statistics.bootstrap import Difference, Measure, average_precision_of, bootstrap, difference_of, mean_of
from headrace.statistics.metrics import log_losses

DRAWS = 400


def compare(ctx: Context, service: str, champion: int, challenger: int, *, start: int, end: int, known_at: int) -> Comparison:
    """Score the asking points of [start, end) by both versions. The challenger passes when it is better by average
    precision or log loss and worse, with 95 % confidence, by neither.

    Rows are those whose label is mature at event time `known_at`. CheckFailed without a positive label among the rows.
    """
    spec = ctx.specs.get(ServiceSpec, service)
    rows = training_set(ctx, spec.model, start=start, end=end, known_at=known_at)
    labels = rows["label"].to_numpy().astype(np.float64)
    if not labels.any() or labels.all():
        raise CheckFailed(
            f"{rows.height} rows between {format_time(start)} and {format_time(end)} have labels of one kind only",
            hint="compare on a longer window",
        )
    old, new = (_scores(ctx, spec, number, rows) for number in (champion, challenger))
    precision = _bootstrap(difference_of(average_precision_of(labels, new), average_precision_of(labels, old)), rows, spec)
    losses = log_losses(labels, new, eps=CERTAIN) - log_losses(labels, old, eps=CERTAIN)
    loss = _bootstrap(mean_of(losses), rows, spec)
    passed, reason = verdict(precision, loss)
    return Comparison(
        service, champion, challenger, rows.height, int(labels.sum()), asdict(precision), asdict(loss), passed, reason
    )


def verdict(precision: Difference, loss: Difference) -> tuple[bool, str]:
    """Whether the challenger passes, and why."""
    said = (
        f"average precision {precision.estimate:+.4f} [{precision.low:+.4f}, {precision.high:+.4f}], "
        f"log loss {loss.estimate:+.4f} [{loss.low:+.4f}, {loss.high:+.4f}]"
    )
    if precision.high < 0 or loss.low > 0:
        return False, f"the challenger is worse: {said}"
    if precision.estimate <= 0 and loss.estimate >= 0:
        return False, f"the challenger is not better: {said}"
    return True, f"the challenger is better: {said}"


def _scores(ctx: Context, spec: ServiceSpec, number: int, rows: pl.DataFrame) -> np.ndarray:
    version = versions.version(ctx, spec.model.name, number)
    runtime = load_runtime(version.engine, ctx.blobs.get(ctx.system, version.artifact))
    matrix = rows.select(pl.col(list(version.features)).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    return runtime.score(matrix)


def _bootstrap(measure: Measure, rows: pl.DataFrame, spec: ServiceSpec) -> Difference:
    keys = spec.model.spine.keys if isinstance(spec.model.spine, SnapshotSpine) else (spec.key,)
    clusters = rows.select(pl.struct(keys).rank("dense")).to_series().to_numpy() if set(keys) <= set(rows.columns) else None
    return bootstrap(measure, rows.height, clusters=clusters, draws=DRAWS)
