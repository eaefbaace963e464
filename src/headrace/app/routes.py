"""Registering HTTP routes: none without a declared permission, each authorised before anything of it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.principals import Callers
from headrace.app.work import Work
from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.kernel.identity import Permission, authorize
from headrace.kernel.log import request_id

PUBLIC: Literal["public"] = "public"
Asks = Permission | Literal["public"]
"""What a door asks for: a permission, or nothing (health)."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Door:
    """A way in: `path` has parameters in braces. `endpoint` finds the caller's Context in `request.state.ctx`, the work
    process in `request.state.work`; `options` are those of FastAPI's `add_api_route`. `check` refuses, by the caller's
    Context, what no body could make right: it runs before the body is read."""

    method: str
    path: str
    asks: Asks
    endpoint: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Context], None] | None = None


def check_query(request: Request, names: Collection[str]) -> None:
    """InvalidInput for an argument of the query that is none of `names`."""
    extra = sorted(set(request.query_params) - set(names))
    if extra:
        known = ", ".join(f"`{name}`" for name in sorted(names)) or "none"
        raise InvalidInput(f"no query argument is called `{extra[0]}`; known: {known}", hint="mend it", field=extra[0])


class Routes:
    """The routes of one app; `doors` is (method, path) -> what it asks for."""

    def __init__(self, app: FastAPI, work: Work, callers: Callers) -> None:
        self.app = app
        self.work = work
        self.callers = callers
        self.doors: dict[tuple[str, str], Asks] = {}

    def add(self, door: Door) -> None:
        """Register the door. ValueError for one that declares no permission, or that is there already."""
        if not isinstance(door.asks, Permission) and door.asks != PUBLIC:
            raise ValueError(f"route {door.method} {door.path} declares no permission")
        if (door.method, door.path) in self.doors:
            raise ValueError(f"route {door.method} {door.path} is registered twice")
        self.doors[door.method, door.path] = door.asks
        self.app.router.add_api_route(
            door.path, door.endpoint, methods=[door.method], response_class=Response,
            route_class_override=self._guarded(door.asks, door.check), **door.options,
        )  # fmt: skip

    def _guarded(self, asks: Asks, check: Callable[[Context], None] | None) -> type[APIRoute]:
        routes = self

        class GuardedRoute(APIRoute):
            def get_route_handler(self) -> Handler:
                handler = super().get_route_handler()

                async def guarded(request: Request) -> Response:
                    request.state.work = routes.work
                    request.state.routes = routes
                    if isinstance(asks, Permission):
                        routes.admit(request, asks)
                    if check is not None:
                        check(request.state.ctx)
                    return await handler(request)

                return guarded

        return GuardedRoute

    def admit(self, request: Request, permission: Permission) -> None:
        """Authenticate and authorize; the caller's Context goes to `request.state.ctx`."""
        principal = self.callers.principal(request.headers, request.method)
        authorize(principal, permission)
        request.state.ctx = self.work.ctx.acting(principal, request_id.get())
