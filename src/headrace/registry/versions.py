"""Model versions: registered once, never changed, approved by somebody."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select
from sqlalchemy.sql import ColumnElement

from headrace.data.datasets import dataset, datasets, inputs_of
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound, UsageError
from headrace.kernel.ids import content_hash, new_id
from headrace.kernel.times import format_time
from headrace.ledger import outbox
from headrace.registry import lineage
from headrace.registry.tables import APPROVALS, VERSIONS
from headrace.registry.types import INPUT, SCORE, Approval, Edge, ModelVersion, Proof
from headrace.training import runs
from headrace.training.jobs import run_in_child
from headrace.training.types import ModelSpec, Run

LARGEST_ARTIFACT = 1 << 30


def register(ctx: Context, model: str, *, run: str | None = None, artifact: Path | None = None) -> ModelVersion:
    """Register what `run` trained, compiled with its parity proof, or any ONNX file with one float32 or float64 input
    [n, features] and a float output. The same run, or the same file, is the same version again.

    NotFound for an unknown model or run; CheckFailed when nothing can serve it truly, or its features changed since.
    """
    spec = ctx.specs.get(ModelSpec, model)
    if (run is None) == (artifact is None):
        raise UsageError("a version is made of a run or of an artifact", hint="give either `--run ID` or `--artifact PATH`")
    if not spec.label.is_binary:
        raise CheckFailed(
            f"the label of model `{model}` is hr.{spec.label.kind}: what is compiled, proved and served so far is the "
            "probability of hr.label or hr.no_event",
            hint="judge its runs with `headrace runs show`, or ask a yes-or-no question",
        )
    return _of_run(ctx, spec, run) if run is not None else _of_file(ctx, spec, Path(str(artifact)))


def version(ctx: Context, model: str, number: int) -> ModelVersion:
    """The version; NotFound lists the known numbers."""
    with ctx.catalog.reading() as connection:
        found = _versions(connection, ctx, (VERSIONS.c.name == model) & (VERSIONS.c.number == number))
        if found:
            return found[0]
        known = connection.execute(select(VERSIONS.c.number).where(_mine(ctx, model)).order_by(VERSIONS.c.number)).scalars()
        numbers = ", ".join(map(str, known))
    if not numbers:
        ctx.specs.get(ModelSpec, model)
        raise NotFound(
            f"model `{model}` has no version {number}: none is registered",
            hint=f"`headrace registry register {model} --run ID` registers what a run trained",
        )
    raise NotFound(
        f"model `{model}` has no version {number}; known: {numbers}", hint=f"`headrace registry list {model}` shows them"
    )


def versions(ctx: Context, model: str) -> list[ModelVersion]:
    """Every version of the model, the newest first. NotFound for a model that is neither declared nor registered."""
    with ctx.catalog.reading() as connection:
        found = _versions(connection, ctx, VERSIONS.c.name == model)
    if not found:
        ctx.specs.get(ModelSpec, model)
    return found


def approve(ctx: Context, model: str, number: int, reason: str) -> ModelVersion:
    """Record that the caller approves the version, and why, with its audit record in the same transaction."""
    found = version(ctx, model, number)
    if not reason.strip():
        raise InvalidInput("an approval needs a reason", hint='give `--reason "..."`', field="reason")
    now = ctx.clock.now()
    who = ctx.principal
    with ctx.catalog.transaction() as connection:
        values = {"id": new_id(), "system": ctx.system, "name": model, "number": number, "by": who.name, "at": now}
        connection.execute(APPROVALS.insert().values(**values, reason=reason))
        facts = {"reason": reason, "content_hash": found.content_hash}
        outbox.record(connection, ctx.system, "registry.approve", f"{model}@{number}", facts, who, now)
    return version(ctx, model, number)


def approvals(ctx: Context, model: str, number: int) -> list[Approval]:
    """Every approval of the version, the oldest first."""
    mine = (APPROVALS.c.system == ctx.system) & (APPROVALS.c.name == model) & (APPROVALS.c.number == number)
    with ctx.catalog.reading() as connection:
        rows = connection.execute(select(APPROVALS).where(mine).order_by(APPROVALS.c.id)).all()
    return [Approval(row.by, format_time(row.at), row.reason) for row in rows]


def parameters(ctx: Context, found: ModelVersion) -> dict[str, Any]:
    """The parameters with which the version was trained; none for an artifact that came as a file."""
    return {} if found.run is None else runs.run(ctx, found.run).parameters


def _of_run(ctx: Context, spec: ModelSpec, run_id: str) -> ModelVersion:
    run = runs.run(ctx, run_id)
    if run.model != spec.name:
        raise InvalidInput(f"run `{run_id}` trained `{run.model}`, not `{spec.name}`",
                           hint=f"`headrace registry register {run.model} --run {run_id}`", field="run")  # fmt: skip
    if "estimator" not in run.artifacts:
        raise CheckFailed(f"run `{run_id}` is `{run.status}` and has no estimator", hint="train it again, or choose another")
    same = VERSIONS.c.run == run_id
    earlier = _existing(ctx, spec.name, same)
    if earlier is not None:
        return earlier
    _check_definitions(ctx, spec, run)
    facts = run_in_child(ctx, f"registering run `{run_id}`", "headrace.registry.compiling:compile_run", {"run": run_id})
    content = {"dataset": dataset(ctx, run.dataset).content_hash, "code": run.code_hash, "parameters": run.parameters,
               "seed": run.seed}  # fmt: skip
    signature = _signature(spec, INPUT, SCORE)
    parents = [f"run:{run_id}", f"dataset:{run.dataset}", *_definitions(spec)]
    above = [Edge(f"run:{run_id}", f"dataset:{run.dataset}"), Edge(f"run:{run_id}", f"code:{run.code_hash}")]
    above += [Edge(f"dataset:{run.dataset}", f"stream:{name}") for name in inputs_of(ctx, run.dataset).get("streams", {})]
    facts |= {"signature": signature, "run": run_id, "dataset": run.dataset}
    return _enter(ctx, spec, same, facts, content, parents, above)


def _of_file(ctx: Context, spec: ModelSpec, path: Path) -> ModelVersion:
    if not path.is_file():
        raise NotFound(f"there is no file `{path}`", hint="give the path of an ONNX file")
    if path.stat().st_size > LARGEST_ARTIFACT:
        raise InvalidInput(f"`{path}` is larger than {LARGEST_ARTIFACT >> 30} GiB", hint="register a smaller model")
    digest = ctx.blobs.put(ctx.system, path.read_bytes())
    same = (VERSIONS.c.artifact == digest) & VERSIONS.c.run.is_(None)
    earlier = _existing(ctx, spec.name, same)
    if earlier is not None:
        return earlier
    known = _dataset_for(ctx, spec)
    arguments = {"model": spec.name, "artifact": digest, "dataset": known}
    facts = run_in_child(ctx, f"registering `{path}`", "headrace.registry.inspecting:inspect_artifact", arguments)
    made = {**facts, "engine": "onnx", "artifact": digest, "proof": None, "metrics": {}, "run": None, "dataset": None}
    return _enter(ctx, spec, same, {**made, "signature": _signature(spec, "", "")}, {}, _definitions(spec), [])


def _dataset_for(ctx: Context, spec: ModelSpec) -> str | None:
    """Real rows for an artifact: the dataset of the model's newest version, else the newest pinned for the model."""
    named = [v.dataset for v in versions(ctx, spec.name) if v.dataset is not None]
    pinned = [found.ref for found in datasets(ctx) if found.name == spec.name]
    candidates = [*named, *reversed(pinned)]
    fitting = [ref for ref in candidates if set(spec.features.columns) <= set(inputs_of(ctx, ref).get("features", ()))]
    return fitting[0] if fitting else None


def _check_definitions(ctx: Context, spec: ModelSpec, run: Run) -> None:
    built = inputs_of(ctx, run.dataset).get("definitions", {})
    changed = [name for name, found in spec.features.definition_hashes.items() if built.get(name, found) != found]
    if changed:
        raise CheckFailed(f"run `{run.id}` was trained on another definition of `{changed[0]}`",
                          hint="train again with today's definition, or restore the old one")  # fmt: skip


def _definitions(spec: ModelSpec) -> list[str]:
    return [f"features:{name}@{found}" for name, found in spec.features.definition_hashes.items()]


def _signature(spec: ModelSpec, input_name: str, output_name: str) -> dict[str, Any]:
    """The model's input and output schema; an empty name is the artifact's own."""
    return {
        "input": {"name": input_name, "features": list(spec.features.columns)},
        "output": {"name": output_name, "field": "score", "type": "float", "minimum": 0.0, "maximum": 1.0},
    }


def _enter(
    ctx: Context, spec: ModelSpec, same: ColumnElement[bool], facts: dict[str, Any], content: dict[str, Any],
    parents: list[str], above: Iterable[Edge],
) -> ModelVersion:  # fmt: skip
    """The next version, its lineage and its audit record in one transaction; the `same` version if one came meanwhile."""
    now = ctx.clock.now()
    kept = {name: facts[name] for name in ("proof", "golden", "reference", "signature", "metrics")}
    kept |= {"features": list(spec.features.columns), "definition_hashes": spec.features.definition_hashes}
    identity = {**content, "kind": "model", "name": spec.name, "engine": facts["engine"], "artifact": facts["artifact"],
                "features": kept["features"], "definitions": kept["definition_hashes"]}  # fmt: skip
    row = {"engine": facts["engine"], "artifact": facts["artifact"], "run": facts["run"], "dataset": facts["dataset"],
           "content_hash": content_hash(identity)}  # fmt: skip
    with ctx.catalog.transaction() as connection:
        earlier = _versions(connection, ctx, (VERSIONS.c.name == spec.name) & same)
        if earlier:
            return earlier[-1]
        newest = connection.execute(select(func.max(VERSIONS.c.number)).where(_mine(ctx, spec.name))).scalar()
        number = (newest or 0) + 1
        values = {"system": ctx.system, "name": spec.name, "number": number, "created_at": now, "facts": kept}
        connection.execute(VERSIONS.insert().values(**values, **row))
        made = f"model:{spec.name}@{number}"
        lineage.record(connection, ctx.system, [*(Edge(made, parent) for parent in parents), *above])
        subject = f"{spec.name}@{number}"
        outbox.record(connection, ctx.system, "registry.register", subject, {**row, **kept}, ctx.principal, now)
        return _versions(connection, ctx, (VERSIONS.c.name == spec.name) & (VERSIONS.c.number == number))[0]


def _mine(ctx: Context, model: str) -> ColumnElement[bool]:
    return (VERSIONS.c.system == ctx.system) & (VERSIONS.c.name == model)


def _existing(ctx: Context, model: str, wanted: ColumnElement[bool]) -> ModelVersion | None:
    with ctx.catalog.reading() as connection:
        found = _versions(connection, ctx, (VERSIONS.c.name == model) & wanted)
    return found[-1] if found else None


def _versions(connection: Connection, ctx: Context, wanted: ColumnElement[bool]) -> list[ModelVersion]:
    query = select(VERSIONS).where((VERSIONS.c.system == ctx.system) & wanted).order_by(VERSIONS.c.number.desc())
    rows = connection.execute(query).all()
    approved = select(APPROVALS).where(APPROVALS.c.system == ctx.system).order_by(APPROVALS.c.id)
    approvers = {(a.name, a.number): a.by for a in connection.execute(approved)}
    return [_version(row, approvers.get((row.name, row.number))) for row in rows]


def _version(row: Row[Any], approved_by: str | None) -> ModelVersion:
    facts = row.facts
    return ModelVersion(
        name=row.name, number=row.number, engine=row.engine, artifact=row.artifact, features=tuple(facts["features"]),
        definition_hashes=facts["definition_hashes"], dataset=row.dataset, run=row.run,
        proof=None if facts["proof"] is None else msgspec.convert(facts["proof"], Proof), golden=facts["golden"],
        reference=facts["reference"], signature=facts["signature"], content_hash=row.content_hash,
        created_at=format_time(row.created_at), metrics=facts["metrics"], approved_by=approved_by,
    )  # fmt: skip
