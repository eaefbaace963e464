"""Doors beside the operation table: the clock, health and API documents. Each asks for a permission like an operation."""

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
from headrace.app.routes import PUBLIC, Routes
from headrace.app.work import Work
from headrace.data.appending import append_raw
from headrace.data.types import StreamSpec
from headrace.kernel.identity import Permission
from headrace.kernel.times import format_time, parse_time


def add_doors(routes: Routes, work: Work) -> None:
    """Register every door of the work process that is neither an operation nor a page."""
    routes.add("GET", "/api/v1/clock", _get_clock, Permission.READ, summary="The event clock of the system.")
    routes.add("POST", "/api/v1/clock", _set_clock, Permission.CLOCK, summary="Advance a virtual clock.")
    routes.add("POST", "/streams/{name}/events", _append, Permission.WRITE_EVENTS, summary="Append events to a stream.")
    routes.add("GET", "/health/live", _live, PUBLIC, include_in_schema=False)
    routes.add("GET", "/health/ready", _ready(work), PUBLIC, include_in_schema=False)
    routes.add("GET", "/metrics", _metrics(work), Permission.READ, summary="Figures for Prometheus.")
    routes.add("GET", "/openapi.json", _openapi(routes), Permission.READ, include_in_schema=False)


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _get_clock(request: Request) -> Response:
    clock = request.state.ctx.clock
    return _json({"now": format_time(clock.now()), "virtual": clock.virtual})


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


def _ready(work: Work) -> Any:
    def ready() -> Response:
        problems = work.problems()
        good = not problems and not work.draining
        return _json({"ready": good, "draining": work.draining, "problems": problems}, 200 if good else 503)

    return ready


def _metrics(work: Work) -> Any:
    def metrics(request: Request) -> Response:
        content, media_type = render_metrics(request.state.ctx, sorted(work.problems()))
        return Response(content, media_type=media_type)

    return metrics


def _openapi(routes: Routes) -> Any:
    def openapi() -> Response:
        return Response(msgspec.json.encode(routes.app.openapi()), media_type="application/json")

    return openapi
