"""Test figures of a run, computed once the run has been chosen."""

from __future__ import annotations

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.training import runs
from headrace.training.jobs import run_in_child

TEST_CPUS = 2


def evaluate(ctx: Context, run_id: str, *, start: int, end: int, known_at: int, history_start: int) -> dict[str, float]:
    """Judge the run's estimator on asking times in [start, end), with the labels mature at `known_at` (microseconds).

    Gives auc_roc, average_precision and log_loss over all rows, rows and positives (of numbers mae, rmse, r2 and rows, of
    classes accuracy, rows and classes), then what the model's own `evaluate(history, test)` gives, which may replace a
    figure of that name; logs them on the run as `test.{name}`.
    `history` are the asking rows from `history_start` on. The scores are kept as the run's artifact `test_scores`: what
    the model gives for rows that it has not seen.
    """
    run = runs.run(ctx, run_id)
    if "estimator" not in run.artifacts:
        raise CheckFailed(f"run `{run_id}` is `{run.status}` and has no estimator", hint="train it again, or choose another")
    window = {"start": start, "end": end, "known_at": known_at, "history_start": history_start}
    arguments = {"model": run.model, "estimator": run.artifacts["estimator"], "window": window}
    found = run_in_child(
        ctx, f"the evaluation of run `{run_id}`", "headrace.training.child:evaluate", arguments, cpus=TEST_CPUS
    )
    numbers = {name: float("nan") if value is None else value for name, value in found["metrics"].items()}
    runs.log_metrics(ctx, run_id, {f"test.{name}": value for name, value in numbers.items()})
    runs.attach(ctx, run_id, {"test_scores": found["scores"]})
    return numbers
