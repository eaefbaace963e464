"""Bodies in and answers out over raw ASGI."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headrace.kernel.errors import HeadraceError, TooLarge, UsageError
from headrace.serving.proxy import Receive, Send

BODY_LIMIT = 1 << 20
encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed the connection before its request was whole; nobody is there to answer."""


class WrongMethod(UsageError):
    status = 405


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body. TooLarge above BODY_LIMIT, by the declared length or by what arrives."""
    declared = headers.get(b"content-length")
    if declared is not None and len(declared) > 6 and int(declared) > BODY_LIMIT:
        raise _too_large(int(declared))
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise _too_large(len(body))
    return body


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the body has {size} bytes; allowed: {BODY_LIMIT}", hint="send fewer rows in one request")


async def reply(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    """Send a JSON answer."""
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def reply_error(send: Send, error: HeadraceError) -> None:
    """Send the error's body with its status."""
    extra: list[tuple[bytes, bytes]] = []
    if isinstance(error, WrongMethod):
        extra.append((b"allow", b"POST"))
    elif error.retryable:
        extra.append((b"retry-after", b"1"))
    elif error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    elif error.status == 413:
        extra.append((b"connection", b"close"))
    await reply(send, error.status, encode(error.body()), *extra)
