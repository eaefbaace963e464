"""A search for good parameters that never sees a later row while it fits, nor the test window at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.training import runs
from headrace.training.code import code_hash
from headrace.training.jobs import run_in_child
from headrace.training.training import all_parameters
from headrace.training.types import ModelSpec, Run

if TYPE_CHECKING:
    from optuna import Trial

MINIMUM_TRIALS = 10
RANDOM_TRIALS = 4
"""Trials drawn at random before the sampler models what it saw."""
LOG_SCALE_FROM = 10.0
"""A range whose ends are this factor apart is searched on a logarithmic scale."""


def search(ctx: Context, model: str, dataset: str, *, trials: int, seed: int, folds: Sequence[int]) -> Run:
    """Search the declared space with a tree-structured Parzen estimator (Bergstra et al. 2011; Optuna's TPESampler).

    Each trial is a run with `parent`, judged forward in time (rolling origin; Tashman 2000): for each of `folds`, ascending
    microseconds of asking time, it is fitted on the rows before and judged by average precision on those from then to the
    next fold; its value is the mean. Folds whose rows cannot tell models apart are left out. The first trial has the default
    parameters. The returned run is the best trial's parameters, fitted on the whole dataset; its `holdout.average_precision`
    is the best trial's.
    """
    spec = ctx.specs.get(ModelSpec, model)
    if not spec.search:
        raise InvalidInput(f"model `{model}` declares no search space", hint='declare search={"name": (low, high)}')
    if trials < MINIMUM_TRIALS:
        raise InvalidInput(f"{trials} trials are no search; at least {MINIMUM_TRIALS}", hint="give more trials", field="trials")
    tags = {"search.trials": str(trials), "search.folds": ",".join(str(fold) for fold in folds)}
    inputs = runs.Inputs(model, dataset, code_hash(spec), seed, all_parameters(spec, {}), tags=tags)
    with runs.recording(ctx, inputs) as run_id:
        arguments = {
            "model": model, "dataset": dataset, "seed": seed, "code_hash": code_hash(spec), "trials": trials,
            "folds": list(folds), "run": run_id,
        }  # fmt: skip
        result = run_in_child(ctx, f"the search for `{model}`", "headrace.training.child:search", arguments)
        return runs.finish(ctx, run_id, runs.Outputs(**result))


@dataclass
class Suggestion:
    """One point of the space; set `value`, what is to be maximised, before asking for the next."""

    parameters: dict[str, Any]
    value: float = -math.inf


def suggestions(spec: ModelSpec, *, trials: int, seed: int) -> Iterator[Suggestion]:
    """`trials` suggestions, one after the other, each depending on the values of the earlier ones and on the seed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    defaults = all_parameters(spec, {})
    if all(name in defaults and _within(defaults[name], space) for name, space in spec.search.items()):
        study.enqueue_trial({name: defaults[name] for name in spec.search})
    for _ in range(trials):
        trial = study.ask()
        suggestion = Suggestion({**defaults, **{name: _suggest(trial, name, s) for name, s in spec.search.items()}})
        yield suggestion
        study.tell(trial, suggestion.value)


def best(tried: list[Suggestion]) -> Suggestion:
    """The first of those with the highest value."""
    return max(tried, key=attrgetter("value"))


def _is_range(space: Any) -> bool:
    return isinstance(space, tuple) and len(space) == 2 and all(type(end) in (int, float) for end in space)


def _within(value: Any, space: Any) -> bool:
    if _is_range(space):
        return type(value) in (int, float) and bool(space[0] <= value <= space[1])
    return value in space


def _suggest(trial: Trial, name: str, space: Any) -> Any:
    if not _is_range(space):
        return trial.suggest_categorical(name, list(space))
    low, high = space
    logarithmic = low > 0 and high / low >= LOG_SCALE_FROM
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=logarithmic)
    return trial.suggest_float(name, low, high, log=logarithmic)
