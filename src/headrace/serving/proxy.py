"""Passing a request on to the work process over a Unix socket, HTTP/1.1, streamed both ways."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools

from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import EngineUnreachable
from headrace.kernel.log import LOG
from headrace.serving.http import Aborted, Receive, Scope, Send

CONNECTIONS = 128
IDLE_CONNECTIONS = 16
IDLE_SECONDS = 2.0
"""Shorter than the server's keep-alive time-out (5 s), so that no request meets a connection being closed."""
BUFFERED = 256 << 10
HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip


class WorkLost(EngineUnreachable):
    """The work process is down, or broke off before it answered."""


def _gone(why: str) -> WorkLost:
    return WorkLost(f"the work process does not answer: {why}", hint="it is starting or was stopped; try again")


class _Connection(asyncio.Protocol):
    """One connection. The parser fills `start` and `chunks`; `changed` wakes the one that waits. `lost` says why it ended;
    `abandoned`: because its client had gone away."""

    def __init__(self) -> None:
        self.lost: str | None = None
        self.abandoned = False
        self.used_at = 0.0
        self._changed: asyncio.Future[None] | None = None
        self._writable = True
        self.begin(head=False)

    def begin(self, *, head: bool) -> None:
        """Expect a new response; a HEAD request's has no body whatever its headers say."""
        self._head = head
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._buffered = 0
        self._reading = True
        self.start: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self.chunks: deque[bytes] = deque()
        self.complete = False
        self.sent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = str(error or "it closed the connection")
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.lost = f"it sent no HTTP: {error}"
            self.transport.abort()
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = []
            return
        self.start = (status, [h for h in self._headers if h[0] not in HOP_BY_HOP])
        if self._head:
            self.complete = True

    def on_body(self, body: bytes) -> None:
        if self.complete:
            return
        self.chunks.append(body)
        self._buffered += len(body)
        if self._buffered > BUFFERED and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.start is not None:
            self.complete = True

    def take(self) -> bytes:
        """All body bytes that have arrived."""
        content = b"".join(self.chunks)
        self.chunks.clear()
        self._buffered = 0
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        return content

    async def write(self, content: bytes) -> None:
        """Write, and wait while the peer is slow, unless it answers or goes away meanwhile."""
        if self.lost is None:
            self.transport.write(content)
        while not self._writable and self.lost is None and self.start is None:
            await self.changed()

    async def changed(self) -> None:
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    @property
    def reusable(self) -> bool:
        return self.lost is None and self.sent and self.complete and not self._head and self._parser.should_keep_alive()


class Upstream:
    """The work process behind the socket `path`. At most CONNECTIONS requests are passed on at once; others wait.

    The log has one line when it is lost and one when it answers again, however many requests met it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._lost = False

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what the work process answers. WorkLost when it does not, before anything was sent."""
        async with self._free:
            try:
                connection = await self._connect()
                try:
                    await self._exchange(connection, scope, receive, send)
                finally:
                    self._release(connection)
            except WorkLost as error:
                if not self._lost:
                    LOG.error("work process lost", error=error.message)
                self._lost = True
                raise

    def close(self) -> None:
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.lost is None and MACHINE.monotonic() - connection.used_at < IDLE_SECONDS:
                return connection
            connection.transport.abort()
        try:
            _, fresh = await asyncio.get_running_loop().create_unix_connection(_Connection, self._path)
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None
        return fresh

    def _release(self, connection: _Connection) -> None:
        if connection.reusable and len(self._idle) < IDLE_CONNECTIONS:
            connection.used_at = MACHINE.monotonic()
            self._idle.append(connection)
        else:
            connection.transport.abort()

    async def _exchange(self, connection: _Connection, scope: Scope, receive: Receive, send: Send) -> None:
        connection.begin(head=scope["method"] == "HEAD")
        head, chunked = request_head(scope)
        await connection.write(head)
        more = True
        while more and connection.lost is None and connection.start is None:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = message.get("body", b""), message.get("more_body", False)
            if chunked:
                body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
            if body:
                await connection.write(body)
        connection.sent = not more
        watching = asyncio.ensure_future(_disconnected(receive, connection))
        try:
            status, headers = await _started(connection)
            if self._lost:
                LOG.info("work process is back")
            self._lost = False
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await _pass_body(connection, send)
        finally:
            watching.cancel()


def request_head(scope: Scope) -> tuple[bytes, bool]:
    """The request line and headers for the work process, and whether the body goes chunked.

    Hop-by-hop headers are left out (RFC 9110, 7.6.1); the client is appended to `x-forwarded-for`.
    """
    headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP and name != b"x-forwarded-proto"]
    names = {name for name, _ in headers}
    chunked = b"content-length" not in names and any(name == b"transfer-encoding" for name, _ in scope["headers"])
    client = scope.get("client")
    if client is not None:
        before = [value for name, value in headers if name == b"x-forwarded-for"]
        headers = [h for h in headers if h[0] != b"x-forwarded-for"]
        headers.append((b"x-forwarded-for", b", ".join([*before, client[0].encode()])))
    headers.append((b"x-forwarded-proto", scope.get("scheme", "http").encode()))
    if chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n", chunked


async def _started(connection: _Connection) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and headers of the answer, as soon as they are there."""
    while connection.start is None:
        if connection.abandoned:
            raise Aborted
        if connection.lost is not None:
            raise _gone(connection.lost)
        await connection.changed()
    return connection.start


async def _pass_body(connection: _Connection, send: Send) -> None:
    while True:
        complete, lost, body = connection.complete, connection.lost, connection.take()
        if complete:
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return
        if lost is not None:
            if not connection.abandoned:
                LOG.error("answer broke off", error=lost)
            raise Aborted
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        else:
            await connection.changed()


async def _disconnected(receive: Receive, connection: _Connection) -> None:
    """When the client goes away, so does the request to the work process."""
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.abandoned = True
    connection.transport.abort()
