"""The outermost layer of the control-plane app: request ids, the body limit, and every error as the one body."""

from __future__ import annotations

import re
import traceback

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.app.arguments import shown
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError, InvalidInput, NotFound, TooLarge, Unauthenticated
from headrace.kernel.ids import new_id
from headrace.kernel.log import LOG, request_id
from headrace.serving.http import WrongMethod

BODY_LIMIT = 16 * 1024 * 1024
FRAMES = 8
"""Innermost frames of a traceback in the log."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def error_response(error: HeadraceError) -> Response:
    """The answer to a failed request; 401 tells browsers to ask for a key."""
    headers = {"www-authenticate": 'Basic realm="headrace: any user, the key as password"'}
    return Response(
        msgspec.json.encode(error.body()),
        error.status,
        headers if isinstance(error, Unauthenticated) else None,
        "application/json",
    )


def body_too_large() -> TooLarge:
    """The refusal of a body beyond BODY_LIMIT."""
    return TooLarge(f"the body is larger than {BODY_LIMIT} bytes", hint="send it in several smaller requests")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(f"there is nothing at `{request.url.path}`", hint="GET /docs lists every route"))
    if error.status_code == 405:
        text = f"`{request.url.path}` does not take {request.method}"
        return error_response(WrongMethod(text, hint="GET /docs lists every route"))
    if error.status_code == 413:
        return error_response(body_too_large())
    return error_response(InvalidInput(str(error.detail), hint="send what GET /docs says"))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "").partition(";")[0]
    if request.method != "GET" and kind != "application/json":
        text = f"the body is `{kind or 'of no declared type'}`; allowed: application/json"
        return error_response(InvalidInput(text, hint="send JSON with the header `Content-Type: application/json`"))
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        text = f"the body is no JSON: {first['ctx']['error']}, at character {first['loc'][1]}"
        return error_response(InvalidInput(text, hint="send one JSON object"))
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    given = "" if field is None or first["type"] == "missing" else f"; given: `{shown(first.get('input'))}`"
    text = f"`{field}`: {first['msg']}{given}" if field else f"the body: {first['msg']}"
    return error_response(InvalidInput(text, hint="send what GET /docs says", field=field))


def _failed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadraceError)
    return error_response(error)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HeadraceError, _failed)
    app.add_exception_handler(Exception, _unforeseen)


def _unforeseen(_request: Request, error: Exception) -> Response:
    LOG.error("request failed", error=repr(error), traceback="".join(traceback.format_exception(error, limit=-FRAMES)))
    return error_response(HeadraceError("the server failed on this request", hint=f"its log names {request_id.get()}"))


def counted(receive: Receive, limit: int) -> Receive:
    """`receive` that refuses a body beyond `limit` bytes while it arrives."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413)
        return message

    return receiving


class Boundary:
    """Wraps an ASGI app: the id of the request (given, else new) is in its log lines and its answer, and a body beyond
    BODY_LIMIT is refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        identifier = given if _REQUEST_ID.fullmatch(given) else new_id()
        token = request_id.set(identifier)
        began = MACHINE.monotonic()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identifier.encode())]
            await send(message)

        declared = headers.get(b"content-length", b"")
        try:
            if declared.isdigit() and int(declared) > BODY_LIMIT:
                await error_response(body_too_large())(scope, receive, answer)
            else:
                await self._app(scope, counted(receive, BODY_LIMIT), answer)
        except Exception:  # (Starlette raises again what `_unforeseen` has logged and answered)
            if not status:
                raise
        finally:
            milliseconds = round((MACHINE.monotonic() - began) * 1e3, 1)
            LOG.debug("request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)
            request_id.reset(token)
