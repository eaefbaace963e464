"""The clients of the service: connections that stay open, one request in flight on each, and no retries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client saw: `status` 0 is a connection that was reset, or an answer that was none."""

    status: int
    body: dict[str, Any]
    seconds: float


class Clients:
    """Sends requests over keep-alive connections to one host."""

    def __init__(self, host: str, port: int, path: str, *, connections: int = 8) -> None:
        self._address = host, port
        self._head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: "
        self._runner = asyncio.Runner()
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = [None] * connections

    def ask(self, requests: Sequence[bytes]) -> list[Answer]:
        """Send every request, each on the first connection that is free; the answers in the order of the requests."""
        return self._runner.run(self._ask(requests))

    def close(self) -> None:
        for connection in self._open:
            if connection is not None:
                connection[1].close()
        self._runner.close()

    async def _ask(self, requests: Sequence[bytes]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(requests)
        waiting = iter(range(len(requests)))
        await asyncio.gather(*(self._client(number, waiting, requests, answers) for number in range(len(self._open))))
        return [answer for answer in answers if answer is not None]

    async def _client(self, number: int, waiting: Any, requests: Sequence[bytes], answers: list[Answer | None]) -> None:
        for index in waiting:
            began = time.perf_counter()
            try:
                status, body = await self._send(number, requests[index])
            except (OSError, EOFError, ValueError) as error:
                self._drop(number)
                status, body = 0, {"error": {"code": "connection", "message": repr(error)}}
            answers[index] = Answer(status, body, time.perf_counter() - began)

    async def _send(self, number: int, request: bytes) -> tuple[int, dict[str, Any]]:
        connection = self._open[number]
        if connection is None or connection[0].at_eof():
            connection = self._open[number] = await asyncio.open_connection(*self._address)
        reader, writer = connection
        writer.write(f"{self._head}{len(request)}\r\n\r\n".encode() + request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = head.decode("latin-1").lower().split("\r\n")
        length = next(int(field[16:]) for field in fields if field.startswith("content-length: "))
        return int(fields[0].split(" ")[1]), json.loads(await reader.readexactly(length))

    def _drop(self, number: int) -> None:
        connection, self._open[number] = self._open[number], None
        if connection is not None:
            connection[1].close()
