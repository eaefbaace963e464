"""Training one model on one dataset version, as a tracked run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.training import runs
from headrace.training.code import code_hash
from headrace.training.jobs import run_in_child
from headrace.training.types import ModelSpec, Run


def train(
    ctx: Context,
    model: str,
    dataset: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Run:
    """Fit `model` on the dataset version `name@version` in a compute child; the finished run has its `estimator`.

    The same dataset, code, parameters, seed and environment give the same artifacts. NotFound for an unknown model,
    InvalidInput for a parameter that the model does not take, CheckFailed when the fit fails (the run is then failed).
    """
    spec = ctx.specs.get(ModelSpec, model)
    given = all_parameters(spec, parameters or {})
    with runs.recording(ctx, runs.Inputs(model, dataset, code_hash(spec), seed, given)) as run_id:
        arguments = {"model": model, "dataset": dataset, "parameters": given, "seed": seed, "code_hash": code_hash(spec)}
        result = run_in_child(ctx, f"the training of `{model}`", "headrace.training.child:train", arguments)
        return runs.finish(ctx, run_id, runs.Outputs(**result))


def all_parameters(spec: ModelSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of the model's function: its defaults, then those of the declaration, then `given`."""
    taken = list(inspect.signature(spec.function).parameters.values())[2:]
    defaults = {p.name: p.default for p in taken if p.default is not inspect.Parameter.empty}
    unknown = [name for name in given if name not in {p.name for p in taken}]
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken):
        raise InvalidInput(f"model `{spec.name}` takes no parameter `{unknown[0]}`; it takes {', '.join(defaults) or 'none'}",
                           hint="mend its name", field=unknown[0])  # fmt: skip
    return {**defaults, **spec.parameters, **given}
