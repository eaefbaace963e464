"""A bounded HTTP/1.1 load generator for loopback: one uvloop process, keep-alive connections, one request in flight each."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import cast

import uvloop


def http_request(path: str, body: bytes, host: str = "localhost", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one POST."""
    extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
    lines = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}{extra}\r\n".encode() + body


@dataclass
class Outcome:
    """What the clients saw. Latencies are seconds; `failed` are answers that are not 200, and resets."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    first_failures: list[bytes] = field(default_factory=list)
    seconds: float = 0.0
    server_cpu_s: float = 0.0

    def summary(self) -> dict[str, float]:
        ordered = sorted(self.latencies) or [0.0]
        count = len(self.latencies)

        def at(q: float) -> float:
            return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3

        return {
            "requests": count,
            "failed": self.failed,
            "requests_per_s": round(count / self.seconds, 1) if self.seconds else 0.0,
            "p50_ms": round(at(0.5), 3),
            "p99_ms": round(at(0.99), 3),
            "cpu_us_per_request": round(self.server_cpu_s / count * 1e6, 1) if count else 0.0,
        }


def cpu_seconds(pid: int) -> float:
    """User plus system CPU time of the process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


class _Client(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], outcome: Outcome, done: asyncio.Future[None], check: Check | None) -> None:
        self._requests, self._outcome, self._done, self._check = requests, outcome, done, check
        self._buffer = b""
        self._sent_at = 0.0
        self._sent = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at, self._sent = time.perf_counter(), request
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        at = buffer.find(b"content-length: ", 0, end + 2)
        if at < 0:
            at = buffer.lower().find(b"content-length: ", 0, end + 2)
        length = int(buffer[at + 16 : buffer.find(b"\r\n", at)])
        if len(buffer) < end + 4 + length:
            self._buffer = buffer
            return
        self._buffer = b""
        self._outcome.latencies.append(time.perf_counter() - self._sent_at)
        good = buffer[9:12] == b"200" and (self._check is None or self._check(self._sent, buffer[end + 4 :]))
        if not good:
            self._fail(buffer)
        self._next()

    def _fail(self, answer: bytes) -> None:
        self._outcome.failed += 1
        if len(self._outcome.first_failures) < 5:
            self._outcome.first_failures.append(answer[:500])

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or next(self._requests, None) is not None:
            self._fail(repr(error).encode())
        if not self._done.done():
            self._done.set_result(None)


Check = Callable[[bytes, bytes], bool]
"""(request bytes, answer body) -> whether the answer is right."""


async def drive(
    host: str, port: int, requests: Iterator[bytes], connections: int, *, pid: int | None = None, check: Check | None = None
) -> Outcome:
    """Send every request over `connections` keep-alive connections; `pid` is the server's, for its CPU time."""
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    waiting = [loop.create_future() for _ in range(connections)]
    cpu = cpu_seconds(pid) if pid else 0.0
    started = time.perf_counter()
    for done in waiting:
        await loop.create_connection(lambda done=done: _Client(requests, outcome, done, check), host, port)
    await asyncio.gather(*waiting)
    outcome.seconds = time.perf_counter() - started
    outcome.server_cpu_s = cpu_seconds(pid) - cpu if pid else 0.0
    return outcome


def until(seconds: float, make: Callable[[int], bytes]) -> Iterator[bytes]:
    """Requests 0, 1, 2, ... for at most `seconds`, at most two million."""
    end = time.perf_counter() + seconds
    for number in range(2_000_000):
        if time.perf_counter() >= end:
            return
        yield make(number)


def run(
    host: str, port: int, requests: Iterator[bytes], connections: int, *, pid: int | None = None, check: Check | None = None
) -> Outcome:
    """`drive` on its own uvloop loop."""
    return uvloop.run(drive(host, port, requests, connections, pid=pid, check=check))


def read_requests(path: str, file: Path, headers: dict[str, str]) -> list[bytes]:
    """One POST for each line of the file."""
    return [http_request(path, body, headers=headers) for body in file.read_bytes().splitlines()]


def _keeping(kept: list[str], every: int) -> Check:
    """A check that finds every answer right and keeps some of them."""
    numbers = count(1)

    def keep(_request: bytes, answer: bytes) -> bool:
        if next(numbers) % every == 0:
            kept.append(answer.decode())
        return True

    return keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="one body a line; they are sent in turn, again and again")
    parser.add_argument("--once", action="store_true", help="end after the last body")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--keep", type=int, metavar="N", help="give back every Nth answer")
    arguments = parser.parse_args()
    headers = dict(header.split(":", 1) for header in arguments.header)
    requests = read_requests(arguments.path, arguments.bodies, headers)
    for connections in arguments.connections:
        sent = until(arguments.seconds, lambda number: requests[number % len(requests)])
        if arguments.once:
            sent = islice(sent, len(requests))
        kept: list[str] = []
        check = _keeping(kept, arguments.keep) if arguments.keep else None
        outcome = run("127.0.0.1", arguments.port, sent, connections, pid=arguments.pid, check=check)
        failures = [answer.decode(errors="replace") for answer in outcome.first_failures]
        print(json.dumps({"connections": connections, **outcome.summary(), "failures": failures, "kept": kept}))


if __name__ == "__main__":
    main()
