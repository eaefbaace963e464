"""The control-plane app: every operation with `http=` as a route below /api/v1, and the doors beside the table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.requests import Request
from starlette.responses import Response

import headrace
from headrace.app.arguments import Parameter, parameters
from headrace.app.boundary import Boundary, add_error_handlers
from headrace.app.doors import DOORS
from headrace.app.encoding import encode
from headrace.app.invoke import invoke
from headrace.app.operations import OPERATIONS
from headrace.app.pages.views import PAGES
from headrace.app.principals import Callers
from headrace.app.routes import Door, Routes, check_query
from headrace.app.work import Work
from headrace.kernel.operation import Operation

_TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "list": list[str], "object": dict[str, Any]}


def control_plane(work: Work, *, keys_required: bool) -> tuple[Boundary, Routes]:
    """The ASGI app of the work process, and its routes."""
    app = FastAPI(title="headrace", version=headrace.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    routes = Routes(app, work, Callers(work.ctx, keys_required=keys_required))
    add_error_handlers(app)
    for door in doors():
        routes.add(door)
    return Boundary(app), routes


def doors() -> list[Door]:
    """Every door of the work process: operations, then those beside the table, then pages."""
    return [*(door_of(operation) for operation in OPERATIONS.values() if operation.http is not None), *DOORS, *PAGES]


def door_of(operation: Operation) -> Door:
    """The route of an operation: braces in the path, the query of a GET, else fields of a JSON body.

    Files of the caller ("path") are no argument here: the server opens no path that a client names.
    """
    method, _, template = (operation.http or "").partition(" ")
    path = "/api/v1" + template
    in_path = set(re.findall(r"{(\w+)}", path))
    shown = [p for p in parameters(operation) if p.kind != "path"]
    hidden = [p.name for p in parameters(operation) if p.kind == "path" and p.required]
    unknown = sorted(in_path - {p.name for p in shown})
    if hidden or unknown:
        raise ValueError(f"operation {operation.name!r} cannot be the route {operation.http!r}: {hidden or unknown}")
    signature = [inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)]
    for parameter in shown:
        if parameter.name in in_path:
            signature.append(_parameter(parameter, InPath(json_schema_extra=dict(parameter.bounds))))
        elif method == "GET":
            place = Query(alias=parameter.public, json_schema_extra=dict(parameter.bounds))
            signature.append(_parameter(parameter, place))
    body = [p for p in shown if p.name not in in_path] if method != "GET" else []
    if body:
        signature.append(_body(operation, body))
    in_query = {p.public for p in shown if p.name not in in_path} if method == "GET" else set()
    endpoint = _endpoint(operation, in_query)
    endpoint.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    options = {
        "name": operation.name,
        "summary": operation.summary,
        "operation_id": operation.name,
        "tags": [operation.name.partition(".")[0]],
        "description": inspect.cleandoc(operation.function.__doc__ or ""),
    }
    return Door(method, path, operation.permission, endpoint, options)


def _type(parameter: Parameter) -> Any:
    declared = _TYPES[parameter.kind]
    return declared if parameter.required else declared | None


def _parameter(parameter: Parameter, place: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if parameter.required else parameter.default
    annotation: Any = Annotated[_type(parameter), place]
    return inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _body(operation: Operation, fields: list[Parameter]) -> inspect.Parameter:
    definitions: dict[str, Any] = {
        p.name: (_type(p), Field(... if p.required else p.default, alias=p.public, json_schema_extra=dict(p.bounds)))
        for p in fields
    }
    name = "".join(word.title() for word in re.split(r"[._]", operation.name))
    model: Any = create_model(name, __config__=ConfigDict(extra="forbid"), **definitions)
    optional = all(not p.required for p in fields)
    annotation: Any = Annotated[model | None if optional else model, Body()]
    default = None if optional else inspect.Parameter.empty
    return inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _endpoint(operation: Operation, in_query: set[str]) -> Callable[..., Response]:
    def endpoint(*, request: Request, body: BaseModel | None = None, **arguments: Any) -> Response:
        check_query(request, in_query)
        given = arguments if body is None else {**arguments, **body.model_dump(exclude_unset=True)}
        key = request.headers.get("idempotency-key")
        result = invoke(request.state.ctx, operation, given, idempotency_key=key)
        return Response(encode(result), media_type="application/json")

    return endpoint
