"""The pages and what each shows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.doors import openapi
from headrace.app.encoding import plain
from headrace.app.pages.rendering import page
from headrace.app.prediction_schema import permission_of
from headrace.app.routes import Door
from headrace.app.status import rollout_of, status
from headrace.kernel.identity import Permission
from headrace.registry.versions import version, versions
from headrace.serving.types import ServiceSpec
from headrace.training.runs import run as run_of
from headrace.training.runs import runs

HTML = {"responses": {"200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}}}
IDENTITY = ("content_hash", "artifact", "golden", "reference")


def _status(request: Request) -> Response:
    ctx = request.state.ctx
    return page("status.html", system=ctx.system, status=status(ctx), problems=request.state.work.problems())


def _run(request: Request, run_id: str) -> Response:
    ctx = request.state.ctx
    run = run_of(ctx, run_id)
    made = [v for v in versions(ctx, run.model) if v.run == run.id]
    return page("run.html", system=ctx.system, run=run, versions=made, trials=runs(ctx, parent=run.id))


def _model(request: Request, name: str, number: Annotated[int, InPath(ge=1, le=2**31 - 1)]) -> Response:
    ctx = request.state.ctx
    model = version(ctx, name, number)
    facts = plain(model)
    identity = {key: value for key, value in facts.items() if key in IDENTITY}
    proof = facts["proof"] or {"proof": "none: the artifact came as a file"}
    return page("model.html", system=ctx.system, model=model, identity=identity, proof=proof, versions=versions(ctx, name))


def _rollout(request: Request, rollout_id: str) -> Response:
    ctx = request.state.ctx
    rollout = rollout_of(ctx, rollout_id)
    model = ctx.specs.get(ServiceSpec, rollout.service).model.name
    return page("rollout.html", system=ctx.system, rollout=rollout, model=model)


def _docs(request: Request) -> Response:
    schema = openapi(request)
    doors = request.state.routes.doors
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, described in methods.items():
            group = (described.get("tags") or ["doors"])[0]
            shown = {"method": method.upper(), "path": path, "summary": described.get("summary", "")}
            asks = doors.get((method.upper(), path)) or permission_of(path)
            groups.setdefault(group, []).append({**shown, "takes": _takes(schema, described), "permission": asks})
    return page("docs.html", system=request.state.ctx.system, groups=dict(sorted(groups.items())))


def _takes(schema: dict[str, Any], described: dict[str, Any]) -> list[str]:
    """Names of the parameters and of the body's fields."""
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    parts = [body, *body.get("anyOf", [])]
    parts += [schema["components"]["schemas"][part["$ref"].rpartition("/")[2]] for part in parts if "$ref" in part]
    return [p["name"] for p in described.get("parameters", [])] + [
        name for part in parts for name in part.get("properties", {})
    ]


PAGES = tuple(
    Door("GET", path, Permission.READ, endpoint, {"summary": summary, "tags": ["pages"], "openapi_extra": HTML})
    for path, endpoint, summary in (
        ("/", _status, "The system as a page."),
        ("/runs/{run_id}", _run, "A run as a page."),
        ("/models/{name}/{number}", _model, "A model version as a page."),
        ("/rollouts/{rollout_id}", _rollout, "A rollout as a page."),
        ("/docs", _docs, "Every route as a page."),
    )
)
