"""uvicorn's HTTP protocol with a short way for predictions: no task, no ASGI messages, one write for the answer.

A whole answer in one write also wakes the client once, not twice. What is not a plain small POST to a prediction route
(another path, a query, a large or chunked body, `Expect`, an upgrade, the end of a connection) goes uvicorn's way
through the ASGI app, which answers the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.serving.http import Answer, Headers


class DirectApp(Protocol):
    """An ASGI app that also answers without ASGI."""

    def is_direct(self, url: bytes) -> bool:
        """Whether POST requests to this URL are answered by `begin`."""
        ...

    def begin(self, url: bytes, headers: Headers, body: bytes, answered: Callable[[Answer], None]) -> None:
        """Answer one request, now or later; raises nothing."""
        ...


class _Event:
    """uvicorn sets it when a part of the body arrives or the client leaves; here nobody waits for it."""

    def set(self) -> None: ...


_NOBODY_WAITS = _Event()


class _Exchange:
    """One request on the short way; what uvicorn's protocol reads and sets of a request and its answer."""

    __slots__ = ("body", "disconnected", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self) -> None:
        self.body = bytearray()
        self.more_body = True
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self.message_event = _NOBODY_WAITS


class PredictionProtocol(HttpToolsProtocol):
    """One connection."""

    app: Any
    cycle: Any

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        if self._is_direct():
            self.cycle = _Exchange()
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _is_direct(self) -> bool:
        """Whether the request may go the short way. Nothing is to be in flight: answers keep the order of requests."""
        if self.parser.get_method() != b"POST" or not self.app.is_direct(self.url) or self.expect_100_continue:
            return False
        if not (self.cycle is None or self.cycle.response_complete) or self.flow.write_paused:
            return False
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        small = length.isdigit() and len(length) < 9 and int(length) <= HIGH_WATER_LIMIT
        stays = self.parser.should_keep_alive() and not self.parser.should_upgrade()
        return small and stays and self.parser.get_http_version() == "1.1"

    def on_message_complete(self) -> None:
        super().on_message_complete()
        exchange = self.cycle
        if type(exchange) is _Exchange and not exchange.more_body and not exchange.response_complete:
            self.app.begin(self.url, self.headers, bytes(exchange.body), partial(self._answer, exchange))

    def _answer(self, exchange: _Exchange, answer: Answer) -> None:
        if exchange.disconnected or self.transport.is_closing():
            return
        status, body, extra = answer
        head = [STATUS_LINE[status], b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)]
        head += [b"%s: %s\r\n" % pair for pair in extra]
        if not exchange.keep_alive:
            head.append(b"connection: close\r\n")
        self.transport.write(b"%s\r\n%s" % (b"".join(head), body))
        exchange.response_complete = True
        if not exchange.keep_alive or (b"connection", b"close") in extra:
            self.transport.close()
        self.on_response_complete()
