"""Doors beside the operation table: the clock, events, health, figures. Each asks for a permission like an operation."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import Body
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.encoding import encode
from headrace.app.events_body import events_of
from headrace.app.metrics import render_metrics
from headrace.app.prediction_schema import prediction_paths
from headrace.app.routes import PUBLIC, Door
from headrace.data.appending import append_raw
from headrace.data.types import StreamSpec
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


def _set_clock(request: Request, now: Annotated[str, Body(embed=True)]) -> Response:
    clock = request.state.ctx.clock
    clock.set(parse_time(now))
    return _json({"now": format_time(clock.now()), "virtual": clock.virtual})


async def _append(request: Request, name: str) -> Response:
    """A JSON object, an array of them, or NDJSON. On the answer they are durable in the log; the contract is checked after."""
    ctx = request.state.ctx
    ctx.specs.get(StreamSpec, name)
    values = events_of(await request.body(), request.headers.get("content-type", ""))
    offset = await run_in_threadpool(append_raw, ctx, name, values) if values else None
    return _json({"stream": name, "appended": len(values), "offset": offset})


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
    return {**schema, "paths": {**schema["paths"], **prediction_paths(request.state.ctx.specs)}}


def _openapi(request: Request) -> Response:
    return Response(msgspec.json.encode(openapi(request)), media_type="application/json")


_UNLISTED = {"include_in_schema": False}
DOORS = (
    Door("GET", "/api/v1/clock", Permission.READ, _get_clock, {"summary": "The event clock of the system."}),
    Door("POST", "/api/v1/clock", Permission.CLOCK, _set_clock, {"summary": "Advance a virtual clock."}, _needs_virtual_clock),
    Door("POST", "/streams/{name}/events", Permission.WRITE_EVENTS, _append, {"summary": "Append events to a stream."}),
    Door("GET", "/metrics", Permission.READ, _metrics, {"summary": "Figures for Prometheus."}),
    Door("GET", "/openapi.json", Permission.READ, _openapi, _UNLISTED),
    Door("GET", "/health/live", PUBLIC, _live, _UNLISTED),
    Door("GET", "/health/ready", PUBLIC, _ready, _UNLISTED),
)
