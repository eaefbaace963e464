"""Predictions on the short way and on uvicorn's give the same answers, in the order of the requests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serving_world import SPECS, Client, constant_model, order, release, service, serving

PREDICT = f"/services/{service.name}/predict"
BATCH = f"{PREDICT}/batch"


def post(path: str, body: bytes, *, version: str = "1.1", chunked: bool = False, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}")
    content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def prediction(number: int, **how: Any) -> bytes:
    return post(PREDICT, json.dumps(order(number)).encode(), **how)


class Raw:
    """A connection that sends bytes as they are."""

    def __init__(self, client: Client) -> None:
        self.socket = socket.create_connection((client.host, client.port), timeout=10)
        self._file = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        body = self._file.read(int(headers.get("content-length", 0)))
        return status, headers, json.loads(body) if body else None

    def ended(self) -> bool:
        return self._file.read(1) == b""


@contextmanager
def raw(make_context: Any) -> Iterator[Raw]:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: constant_model(0.5)}) as client:
        connection = Raw(client)
        yield connection
        connection.socket.close()


def score(answer: tuple[int, dict[str, str], Any]) -> float:
    assert answer[0] == 200, answer
    found: float = answer[2]["score"]
    return found


def test_requests_sent_at_once_are_answered_in_order(make_context: Any) -> None:
    bad = post(PREDICT, b"{")
    live = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with raw(make_context) as connection:
        connection.send(prediction(1) + live + prediction(2) + bad + bad + prediction(3) + live)
        assert score(connection.answer()) == 0.5
        assert connection.answer()[2] == {"live": True}
        assert score(connection.answer()) == 0.5
        assert [connection.answer()[0] for _ in range(2)] == [400, 400]
        assert score(connection.answer()) == 0.5
        assert connection.answer()[2] == {"live": True}
        connection.send(prediction(4))
        assert score(connection.answer()) == 0.5


def test_a_request_may_arrive_in_pieces(make_context: Any) -> None:
    request = prediction(1)
    with raw(make_context) as connection:
        connection.send(*(request[place : place + 7] for place in range(0, len(request), 7)))
        assert score(connection.answer()) == 0.5


@pytest.mark.parametrize("how", [{"chunked": True}, {"X_Padding": "x" * 9000}])
def test_unusual_requests_are_answered_the_same(make_context: Any, how: dict[str, Any]) -> None:
    with raw(make_context) as connection:
        connection.send(prediction(1, **how))
        usual = connection.answer()
        assert score(usual) == 0.5
        connection.send(prediction(1))
        assert connection.answer()[2] == usual[2], "a retry of the same id"


def test_a_body_above_the_short_ways_limit_is_answered(make_context: Any) -> None:
    rows = [order(number) for number in range(800)]
    body = json.dumps({"rows": rows}).encode()
    assert 65_536 < len(body) < 1 << 20
    with raw(make_context) as connection:
        connection.send(post(BATCH, body))
        status, _, answer = connection.answer()
        assert status == 200 and [row["score"] for row in answer["predictions"]] == [0.5] * len(rows)


def test_expect_is_answered_before_the_body_is_sent(make_context: Any) -> None:
    request = prediction(1, Expect="100-continue")
    head, body = request.split(b"\r\n\r\n")
    with raw(make_context) as connection:
        connection.send(head + b"\r\n\r\n")
        assert connection.answer()[0] == 100
        connection.send(body)
        assert score(connection.answer()) == 0.5


@pytest.mark.parametrize("how", [{"Connection": "close"}, {"version": "1.0"}])
def test_a_connection_ends_where_the_client_says(make_context: Any, how: dict[str, Any]) -> None:
    with raw(make_context) as connection:
        connection.send(prediction(1, **how))
        answer = connection.answer()
        assert score(answer) == 0.5 and answer[1]["connection"] == "close"
        assert connection.ended()
