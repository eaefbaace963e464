"""Doors beside the operation table: the clock, events, health, figures. Each asks for a permission like an operation."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.encoding import encode
from headrace.app.events_door import append_events
from headrace.app.metrics import render_metrics
from headrace.app.prediction_schema import served_paths
from headrace.app.routes import PUBLIC, Door
from headrace.app.tables_door import TABLES
from headrace.engines.context import Context
from headrace.kernel.errors import Denied
from headrace.kernel.identity import Permission
from headrace.kernel.times import format_time, parse_time


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _get_clock(request: Request) -> Response:
    clock = request.state.ctx.clock
    return _json({"now": format_time(clock.now()), "virtual": clock.virtual})


def _needs_virtual_clock(ctx: Context) -> None:
    if not ctx.clock.virtual:
        raise Denied("the clock of this system is real and cannot be set", hint="start it with `--clock virtual`")


class ClockTime(BaseModel, extra="forbid"):
    """The body of a request that sets the clock."""

    now: str


def _set_clock(request: Request, body: ClockTime) -> Response:
    """To the same or a later time. The same request twice is as once, so an `Idempotency-Key` is not looked at."""
    clock = request.state.ctx.clock
    clock.set(parse_time(body.now))
    return _json({"now": format_time(clock.now()), "virtual": clock.virtual})


def _live() -> Response:
    return _json({"live": True})


def _ready(request: Request) -> Response:
    work = request.state.work
    problems = work.problems()
    good = not problems and not work.draining
    return _json({"ready": good, "draining": work.draining, "problems": problems}, 200 if good else 503)


def _metrics(request: Request) -> Response:
    content, media_type = render_metrics(request.state.ctx, sorted(request.state.work.problems()))
    return Response(content, media_type=media_type)


def openapi(request: Request) -> dict[str, Any]:
    """The API document of both processes."""
    schema: dict[str, Any] = request.app.openapi()
    return {**schema, "paths": {**schema["paths"], **served_paths(request.state.ctx.specs)}}


def _openapi(request: Request) -> Response:
    return Response(msgspec.json.encode(openapi(request)), media_type="application/json")


_APPEND = {
    "summary": "Append events to a stream.",
    "openapi_extra": {
        "parameters": [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {}}, "application/x-ndjson": {"schema": {"type": "string"}}},
        },
    },
}
DOORS = (
    Door("GET", "/api/v1/clock", Permission.READ, _get_clock, {"summary": "The event clock of the system."}),
    Door("POST", "/api/v1/clock", Permission.CLOCK, _set_clock, {"summary": "Advance a virtual clock."}, _needs_virtual_clock),
    Door("POST", "/streams/{name}/events", Permission.WRITE_EVENTS, append_events, _APPEND),
    *TABLES,
    Door("GET", "/metrics", Permission.READ, _metrics, {"summary": "Figures for Prometheus."}),
    Door("GET", "/openapi.json", Permission.READ, _openapi, {"summary": "This API as a document."}),
    Door("GET", "/health/live", PUBLIC, _live, {"summary": "Whether the process is alive.", "tags": ["health"]}),
    Door("GET", "/health/ready", PUBLIC, _ready, {"summary": "Whether requests can be answered.", "tags": ["health"]}),
)
