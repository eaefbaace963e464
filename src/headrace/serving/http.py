"""Bodies in and answers out over raw ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from headrace.kernel.errors import HeadraceError, TooLarge, UsageError

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, bytes, Headers]
"""Status, JSON body, and headers besides those of its type and length."""
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 1 << 20
DISCARDED = 16 << 20
"""So much of a refused body is read and thrown away: closing on unread bytes would reset the connection before the
client has read why. Above it the connection is just closed."""
encode = msgspec.json.Encoder().encode
JSON: Headers = [(b"content-type", b"application/json")]


class Aborted(Exception):
    """The client closed the connection before its request was whole, or an answer broke off: nothing more can be said,
    and the connection is closed, so that a cut body never looks whole."""


class WrongMethod(UsageError):
    status = 405


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body. TooLarge above BODY_LIMIT, by the declared length or by what arrives."""
    declared = headers.get(b"content-length")
    if declared is not None and len(declared) > 6 and int(declared) > BODY_LIMIT:
        await _discard(receive, int(declared))
        raise _too_large(int(declared))
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Aborted
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Aborted
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            if message.get("more_body", False):
                await _discard(receive, len(body))
            raise _too_large(len(body))
    return body


async def _discard(receive: Receive, size: int) -> None:
    more = size <= DISCARDED
    while more and size <= 2 * DISCARDED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Aborted
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the body has {size} bytes; allowed: {BODY_LIMIT}", hint="send fewer rows in one request")


async def reply(send: Send, status: int, body: bytes, extra: Headers | None = None, kind: Headers = JSON) -> None:
    """Send a whole answer, JSON unless the headers in `kind` say otherwise."""
    headers = [*kind, (b"content-length", b"%d" % len(body)), *(extra or ())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def answer_to(error: HeadraceError) -> Answer:
    """Its body with its status."""
    extra: Headers = []
    if isinstance(error, WrongMethod):
        extra.append((b"allow", b"POST"))
    elif error.retryable:
        extra.append((b"retry-after", b"1"))
    elif error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    elif error.status == 413:
        extra.append((b"connection", b"close"))
    return error.status, encode(error.body()), extra
