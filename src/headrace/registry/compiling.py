"""From a fitted estimator to what serves: ONNX when the parity proof passes, else the library's own format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from headrace.data.datasets import load
from headrace.kernel.errors import CheckFailed
from headrace.registry.evidence import cross_fitted, golden, reference
from headrace.registry.graphs import onnx_graph, split
from headrace.registry.proving import proof_rows, prove
from headrace.registry.runtimes import Runtime, load_runtime
from headrace.registry.types import Engine, Proof
from headrace.training import runs
from headrace.training.answers import labels_of
from headrace.training.estimators import Matrix, lightgbm_text, matrix_of, read, scores
from headrace.training.jobs import open_world
from headrace.training.types import ModelSpec

NATIVE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Compiled:
    """What serves, and the proof of it."""

    engine: Engine
    artifact: bytes
    runtime: Runtime
    proof: Proof


def compile_run(arguments: dict[str, Any]) -> dict[str, Any]:
    """Entry of a compute child: compile the estimator of a run; return the version's facts."""
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


def compile_estimator(name: str, estimator: Any, rows: Matrix, positives: int) -> Compiled:
    """Compile and prove on the dataset's `rows`. CheckFailed with the reason when nothing can serve the model truly."""
    sample = proof_rows(rows)
    expected = round(positives * len(sample) / len(rows))
    refused: Proof | None = None
    for wide in (False, True) if split(estimator)[0] is not None else (False,):
        compiled = _to_onnx(estimator, sample, expected, wide=wide)
        if isinstance(compiled, Compiled):
            return compiled
        if refused is None or compiled.max_difference < refused.max_difference:
            refused = compiled
    assert refused is not None
    text = lightgbm_text(estimator)
    if text is None:
        kind = type(split(estimator)[1]).__name__
        raise CheckFailed(f"model `{name}`, a {kind}, cannot be compiled: {refused.reason}",
                          hint="train a LightGBM model, which can be served natively, or another scikit-learn classifier",
                          )  # fmt: skip
    return _natively(name, estimator, text, sample, refused)


def _to_onnx(estimator: Any, sample: Matrix, positives: int, *, wide: bool) -> Compiled | Proof:
    """The compiled model with its proof, or the proof that did not pass."""
    try:
        artifact = onnx_graph(estimator, sample.shape[1], wide=wide)
        runtime = load_runtime("onnx", artifact)
        proof = prove(estimator, runtime, sample, positives)
    except Exception as error:  # noqa: BLE001 - converters and ONNX Runtime raise anything; the reason is kept and shown
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
        return Proof(0, 0, 1.0, False, False, (), f"the conversion to ONNX fails: {reason}")
    if proof.passed:
        return Compiled("onnx", artifact, runtime, proof)
    return replace(
        proof,
        reason=f"as ONNX its scores differ by up to {proof.max_difference:.3g} over {proof.rows + proof.threshold_rows} rows"
        + ("" if proof.equal_order else ", and rows change sides of a decision threshold"),
    )


def _natively(name: str, estimator: Any, text: str, sample: Matrix, refused: Proof) -> Compiled:
    runtime = load_runtime("lightgbm", text.encode())
    difference = float(np.abs(runtime.score(sample) - scores(estimator, sample)).max())
    if not difference <= NATIVE_TOLERANCE:
        raise CheckFailed(f"model `{name}` written as LightGBM's text scores differently, by up to {difference:.3g}",
                          hint="check that the versions of LightGBM agree: `headrace doctor`")  # fmt: skip
    return Compiled("lightgbm", text.encode(), runtime, replace(refused, native_difference=difference))
