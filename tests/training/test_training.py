from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from shop_training import END, EVERY, FILE, HOLDOUT, KNOWN, START, VISITS, shop
from sqlalchemy import select

from headrace.data.datasets import inputs_of, load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound
from headrace.kernel.ids import content_hash
from headrace.kernel.times import DAY, format_time
from headrace.ledger.tables import OUTBOX
from headrace.training import runs
from headrace.training.datasets import build_dataset
from headrace.training.estimators import fit
from headrace.training.evaluation import evaluate
from headrace.training.operations import show_metric, train_model
from headrace.training.search import search, suggestions
from headrace.training.training import train
from headrace.training.types import MetricStep, ModelSpec, Run


@dataclass
class Trained:
    """What the jobs of this file gave; they run side by side because a child needs a second to import its trainer."""

    ctx: Context
    dataset: str
    once: Run
    again: Run
    searched: Run
    metrics: dict[str, float]
    broken: BaseException | None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    with shop(tmp_path_factory.mktemp("shop") / "data") as ctx, ThreadPoolExecutor(4) as pool:
        dataset = build_dataset(ctx, "boosting", start=START, end=END, known_at=KNOWN).ref
        once = pool.submit(train, ctx, "boosting", dataset)
        again = pool.submit(train, ctx, "boosting", dataset, parameters={"num_leaves": 15})
        searched = pool.submit(search, ctx, "boosting", dataset, trials=10, seed=1, folds=[HOLDOUT - 3_000 * EVERY, HOLDOUT])
        broken = pool.submit(train, ctx, "broken", dataset)
        window = {"start": HOLDOUT, "end": END, "known_at": KNOWN, "history_start": START}
        metrics = pool.submit(evaluate, ctx, once.result().id, **window)
        results = (job.result() for job in (once, again, searched, metrics))
        yield Trained(ctx, dataset, *results, broken.exception())


def test_a_run_records_what_it_was_made_of(trained: Trained) -> None:
    run = trained.once
    assert (run.status, run.model, run.dataset, run.parent, run.error) == ("finished", "boosting", trained.dataset, None, "")
    assert run.parameters == {"num_leaves": 15, "learning_rate": 0.1, "boost": "gbdt"}
    assert run.code_hash == content_hash(FILE.read_bytes())
    assert trained.ctx.blobs.get("shop", run.artifacts["source"]) == FILE.read_bytes()
    assert run.metrics["train.rows"] == VISITS
    assert run.environment["lightgbm"] and run.environment["python"] == sys.version.split()[0]
    assert b"tree_sizes" in trained.ctx.blobs.get("shop", run.artifacts["lightgbm"])
    kept = runs.run(trained.ctx, run.id).artifacts
    tested = np.frombuffer(trained.ctx.blobs.get("shop", kept.pop("test_scores")), np.float64)
    assert kept == run.artifacts, "a test adds its scores, one a row"
    assert len(tested) == trained.metrics["rows"]


def test_the_same_inputs_give_the_same_artifacts(trained: Trained) -> None:
    assert trained.once.id != trained.again.id
    assert trained.once.artifacts == trained.again.artifacts
    same = trained.once.parameters == trained.searched.parameters
    assert (trained.once.artifacts["estimator"] == trained.searched.artifacts["estimator"]) == same


def test_a_dataset_says_what_it_was_built_from(trained: Trained) -> None:
    inputs = inputs_of(trained.ctx, trained.dataset)
    assert (inputs["start"], inputs["end"], inputs["known_at"]) == tuple(map(format_time, (START, END, KNOWN)))
    assert inputs["features"] == ["pages", "amount", "customer_count_1d", "customer_amount_1d"]
    assert inputs["streams"]["visit"] == VISITS
    frame = load(trained.ctx, trained.dataset)
    assert frame.height == VISITS and frame["label"].sum() == trained.once.metrics["train.positives"]


def test_a_search_is_runs_judged_on_later_rows_and_ends_with_the_best_on_all(trained: Trained) -> None:
    searched = trained.searched
    trials = runs.runs(trained.ctx, parent=searched.id)
    judged = {run.id: run.metrics["holdout.average_precision"] for run in trials}
    assert len(trials) == 10
    assert all(run.metrics["train.rows"] == 9_000 and "estimator" not in run.artifacts for run in trials)
    assert searched.metrics["train.rows"] == VISITS and searched.metrics["holdout.rows"] == 6_000
    for run in trials:
        folds = [step.value for step in runs.metric_history(trained.ctx, run.id, "fold.average_precision")]
        assert len(folds) == 2 and folds[0] != folds[1] and np.mean(folds) == judged[run.id]
    assert searched.metrics["holdout.average_precision"] == max(judged.values())
    chosen = next(run for run in trials if judged[run.id] == max(judged.values()))
    assert searched.parameters == chosen.parameters
    first = trials[-1]
    assert first.parameters == {"num_leaves": 15, "learning_rate": 0.1, "boost": "gbdt"}
    steps = show_metric(trained.ctx, run=searched.id, name="trial.average_precision")
    assert [one.value for one in steps] == [judged[run.id] for run in reversed(trials)]
    assert all(3 <= run.parameters["num_leaves"] <= 40 and 0.01 <= run.parameters["learning_rate"] <= 0.3 for run in trials)
    assert searched.id in {run.id for run in runs.runs(trained.ctx)}
    assert not {run.id for run in trials} & {run.id for run in runs.runs(trained.ctx)}


def test_evaluation_gives_the_models_own_figures_too_and_logs_them(trained: Trained) -> None:
    metrics = trained.metrics
    assert (metrics["rows"], metrics["test_rows"], metrics["scored"], metrics["history_rows"]) == (3_000, 3_000, 3_000, VISITS)
    assert metrics["labelled"] == trained.once.metrics["train.positives"]
    assert 0.7 < metrics["auc_roc"] <= 1 and 0 < metrics["log_loss"] < 0.7
    assert 0 < metrics["mean_score"] < 1
    logged = runs.run(trained.ctx, trained.once.id).metrics
    assert {f"test.{name}": value for name, value in metrics.items()}.items() <= logged.items()


def test_a_trainer_that_fails_is_a_failed_run_with_its_reason(trained: Trained) -> None:
    assert isinstance(trained.broken, CheckFailed) and "the trainer gave up" in str(trained.broken)
    failed = next(run for run in runs.runs(trained.ctx, model="broken") if run.status == "failed")
    assert "the trainer gave up" in failed.error and failed.artifacts == {}


def test_what_is_no_fitted_classifier_is_refused_with_the_place(trained: Trained) -> None:
    rows, labels = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    with pytest.raises(CheckFailed, match=r"shop_system.py:\d+.*`forgetful`") as nothing:
        fit(trained.ctx.specs.get(ModelSpec, "forgetful"), rows, labels.astype(np.int8), {}, 0)
    assert "return the fitted estimator" in nothing.value.hint
    with pytest.raises(CheckFailed, match="hold 0 positive labels"):
        fit(trained.ctx.specs.get(ModelSpec, "boosting"), rows, np.zeros(20, np.int8), {}, 0)


def test_finished_runs_are_in_the_outbox_and_trials_are_not(trained: Trained) -> None:
    with trained.ctx.catalog.reading() as connection:
        subjects = set(connection.execute(select(OUTBOX.c.subject).where(OUTBOX.c.kind == "run.finished")).scalars())
    assert subjects == {run.id for run in (trained.once, trained.again, trained.searched)}


def test_wrong_uses_are_refused_before_a_child_starts(trained: Trained) -> None:
    ctx, dataset = trained.ctx, trained.dataset
    with pytest.raises(NotFound, match="`boosting`"):
        train(ctx, "bosting", dataset)
    with pytest.raises(InvalidInput, match="`depth`"):
        train(ctx, "boosting", dataset, parameters={"depth": 3})
    with pytest.raises(InvalidInput, match="at least 10"):
        search(ctx, "boosting", dataset, trials=3, seed=0, folds=[HOLDOUT])
    with pytest.raises(InvalidInput, match="no search space"):
        search(ctx, "linear", dataset, trials=10, seed=0, folds=[HOLDOUT])
    with pytest.raises(NotFound, match="unknown run `0`"):
        evaluate(ctx, "0", start=START, end=END, known_at=KNOWN, history_start=START)
    with pytest.raises(CheckFailed, match="mature") as immature:
        build_dataset(ctx, "boosting", start=START, end=END, known_at=START + DAY - 1)
    assert "1 days after" in immature.value.hint
    with pytest.raises(InvalidInput, match="no time"):
        train_model(ctx, model="boosting", from_="2026-01-07", to="2026-01-07")


def test_labels_that_are_not_mature_are_no_rows(trained: Trained) -> None:
    known = HOLDOUT + DAY - 1
    dataset = build_dataset(trained.ctx, "boosting", start=START, end=END, known_at=known)
    assert dataset.rows == 9_000
    assert load(trained.ctx, dataset.ref)["at"].max() < pl.Series([HOLDOUT]).cast(pl.Datetime("us", "UTC"))[0]


RUNNING = """
import os, signal, sys
from headrace.app.world import context
from headrace.training import runs
ctx = context({"data": sys.argv[1], "system": "shop", "file": None, "clock": "virtual"})
with runs.recording(ctx, runs.Inputs("boosting", "d@0", "code", 0, {})) as run_id:
    print(run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_whose_process_was_killed_is_failed_later(trained: Trained) -> None:
    ctx = trained.ctx
    command = [sys.executable, "-c", RUNNING, str(ctx.settings.data)]
    died = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    run_id = died.stdout.strip()
    assert runs.run(ctx, run_id).status == "running"
    with runs.recording(ctx, runs.Inputs("boosting", "d@0", "code", 0, {})) as alive:
        assert (runs.run(ctx, run_id).status, runs.run(ctx, run_id).error) == ("failed", runs.ABANDONED)
        assert runs.fail_abandoned(ctx) == 0
        runs.log_metrics(ctx, alive, {"loss": 2.0}, step=1)
        runs.log_metrics(ctx, alive, {"loss": 1.0}, step=2)
        runs.log_metrics(ctx, alive, {"loss": float("nan")}, step=3)
        runs.log_metrics(ctx, alive, {"loss": 1.5}, step=2)
        assert np.isnan(runs.run(ctx, alive).metrics["loss"])
        assert show_metric(ctx, run=alive, name="loss")[:2] == [MetricStep(1, 2.0), MetricStep(2, 1.5)]
        with pytest.raises(NotFound, match="unknown metric `los`; known: `loss`"):
            show_metric(ctx, run=alive, name="los")
        runs.finish(ctx, alive, runs.Outputs())


def test_only_what_runs_in_children_reads_pickles() -> None:
    source = Path(runs.__file__).parents[1]
    words = ("import pickle", "import joblib", "from joblib", "import dill", "import cloudpickle")
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if any(w in path.read_text() for w in words)}
    assert found == {"training/estimators.py"}
    importers = {str(path.relative_to(source)) for path in source.rglob("*.py") if "estimators import" in path.read_text()}
    assert importers <= {
        "training/child.py",
        "registry/compiling.py",
        "registry/evidence.py",
        "registry/inspecting.py",
        "registry/proving.py",
    }


def test_suggestions_depend_on_the_seed_and_on_earlier_values_alone(trained: Trained) -> None:
    spec = trained.ctx.specs.get(ModelSpec, "boosting")

    def tried(seed: int, better_when_small: bool) -> list[dict[str, object]]:
        found = []
        for suggestion in suggestions(spec, trials=12, seed=seed):
            leaves = suggestion.parameters["num_leaves"]
            suggestion.value = -leaves if better_when_small else leaves
            found.append(suggestion.parameters)
        return found

    assert tried(1, True) == tried(1, True) != tried(2, True)
    assert tried(1, True)[:4] == tried(1, False)[:4] and tried(1, True) != tried(1, False)
