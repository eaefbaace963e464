"""Registering HTTP routes: none without a declared permission, each authorised before anything of it runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.principals import Callers
from headrace.engines.context import Context
from headrace.kernel.identity import Permission, authorize
from headrace.kernel.log import request_id

PUBLIC: Literal["public"] = "public"
Door = Permission | Literal["public"]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Routes:
    """The routes of one app; `doors` is (method, path) -> permission, as the permission test walks them."""

    def __init__(self, app: FastAPI, ctx: Context, callers: Callers) -> None:
        self.app = app
        self.ctx = ctx
        self.callers = callers
        self.doors: dict[tuple[str, str], Door] = {}

    def add(self, method: str, path: str, endpoint: Callable[..., Any], permission: Door, **options: Any) -> None:
        """Register `endpoint`. `request.state.ctx` is the Context acting for the caller. ValueError without a permission."""
        if not isinstance(permission, Permission) and permission != PUBLIC:
            raise ValueError(f"route {method} {path} declares no permission")
        if (method, path) in self.doors:
            raise ValueError(f"route {method} {path} is registered twice")
        self.doors[method, path] = permission
        self.app.router.add_api_route(
            path, endpoint, methods=[method], route_class_override=self._guarded(permission), response_class=Response, **options
        )

    def _guarded(self, permission: Door) -> type[APIRoute]:
        routes = self

        class GuardedRoute(APIRoute):
            def get_route_handler(self) -> Handler:
                handler = super().get_route_handler()

                async def guarded(request: Request) -> Response:
                    if isinstance(permission, Permission):
                        routes.admit(request, permission)
                    return await handler(request)

                return guarded

        return GuardedRoute

    def admit(self, request: Request, permission: Permission) -> None:
        """Authenticate and authorize; the caller's Context goes to `request.state.ctx`."""
        principal = self.callers.principal(request.headers, request.method)
        authorize(principal, permission)
        request.state.ctx = self.ctx.acting(principal, request_id.get())
