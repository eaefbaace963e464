"""What users can do with training."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.kernel.times import parse_time
from headrace.training import runs
from headrace.training.datasets import build_dataset
from headrace.training.evaluation import evaluate
from headrace.training.search import search
from headrace.training.training import train
from headrace.training.types import MetricStep, Run

Trials = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""What every generator of random numbers takes."""
PARTS, JUDGING_PARTS = 5, 3
"""A search judges forward in time on each of the last parts of the dataset's time."""


@operation("runs.list", permission=Permission.READ, http="GET /runs", cli="runs list")
def list_runs(ctx: Context, *, model: str | None = None, parent: str | None = None) -> list[Run]:
    """List the training runs, the newest first; with `parent` the trials of a search."""
    return runs.runs(ctx, model=model, parent=parent)


@operation("runs.show", permission=Permission.READ, http="GET /runs/{run}", cli="runs show")
def show_run(ctx: Context, *, run: str) -> Run:
    """Show one training run: parameters, metrics, artifacts, environment."""
    return runs.run(ctx, run)


@operation("runs.metric", permission=Permission.READ, http="GET /runs/{run}/metrics/{name}", cli="runs metric")
def show_metric(ctx: Context, *, run: str, name: str) -> list[MetricStep]:
    """Show every value of one metric of a run, by step: a loss by round, a score by trial."""
    return runs.metric_history(ctx, run, name)


@operation("runs.evaluate", permission=Permission.TRAIN, changes=True, http="POST /runs/{run}/evaluations", cli="runs evaluate")
def evaluate_run(ctx: Context, *, run: str, from_: str, to: str, history_from: str | None = None) -> Run:
    """Judge a run on the asking times from `from` to before `to`, with the labels known now; logs `test.` metrics."""
    start, end = _window(from_, to)
    history_start = start if history_from is None else parse_time(history_from)
    evaluate(ctx, run, start=start, end=end, known_at=ctx.clock.now(), history_start=history_start)
    return runs.run(ctx, run)


@operation("training.train", permission=Permission.TRAIN, changes=True, http="POST /training", cli="train")
def train_model(ctx: Context, *, model: str, from_: str, to: str, trials: Trials = 0, seed: Seed = 0) -> Run:
    """Build a dataset of the asking times from `from` to before `to`, with the labels known now, and train on it.

    With `trials` it searches the model's parameters, judged on each of the last three fifths of the time by what was before.
    """
    start, end = _window(from_, to)
    dataset = build_dataset(ctx, model, start=start, end=end, known_at=ctx.clock.now())
    if not trials:
        return train(ctx, model, dataset.ref, seed=seed)
    folds = [end - (end - start) * part // PARTS for part in range(JUDGING_PARTS, 0, -1)]
    return search(ctx, model, dataset.ref, trials=trials, seed=seed, folds=folds)


def _window(from_: str, to: str) -> tuple[int, int]:
    start, end = parse_time(from_), parse_time(to)
    if start >= end:
        raise InvalidInput(f"there is no time from {from_} to {to}", hint="`--from` must be before `--to`", field="to")
    return start, end
