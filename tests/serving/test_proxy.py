"""Other paths reach the work process over its Unix socket, streamed both ways."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from serving_world import SPECS, serving, wait_until


class Work:
    """An upstream app that shows what it was sent; `gone` is set when a client went away during `/stream`, `left` when
    before the answer to `/silent`, which never comes."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.left = threading.Event()
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length, more = length + len(message.get("body", b"")), message.get("more_body", False)
        headers = [
            (b"x-seen", f"{scope['method']} {scope['path']} {length}".encode()),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
        ]
        if scope["path"] == "/silent":
            await receive()
            self.left.set()
            return
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            gone = asyncio.ensure_future(receive())
            number = 0
            while not gone.done():
                await send({"type": "http.response.body", "body": b"tick %d\n" % number, "more_body": True})
                await asyncio.sleep(0.01)
                number += 1
            self.gone.set()
            return
        if scope["path"] == "/broken":
            await send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("it broke off")
        body = b"y" * 3_000_000 if scope["path"] == "/large" else b"%d" % length
        status = 404 if scope["path"] == "/missing" else 200
        if scope["path"] == "/nothing":
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await send(
            {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
        )
        await send({"type": "http.response.body", "body": body})


@contextmanager
def working(path: Path) -> Iterator[Work]:
    app = Work()
    server = uvicorn.Server(uvicorn.Config(app, uds=str(path), log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(path.exists)
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def proxied(make_context: Any, tmp_path: Path) -> Iterator[tuple[Any, Work]]:
    path = tmp_path / "work.sock"
    with working(path) as work, serving(make_context(SPECS), {}, upstream=str(path)) as client:
        yield client, work


def test_requests_and_answers_pass_whole(proxied: Any) -> None:
    client, work = proxied
    for method, path, body, status in (
        ("GET", "/api/v1/runs?limit=3&x=%20a", None, 200),
        ("POST", "/api/v1/runs", b"x" * 2_000_000, 200),
        ("PUT", "/api/caf%C3%A9", b"{}", 200),
        ("GET", "/missing", None, 404),
    ):
        client.connection.request(method, path, body, {"authorization": "Bearer k", "x-forwarded-for": "9.9.9.9", "te": "gzip"})
        answer = client.connection.getresponse()
        content = answer.read()
        scope = work.seen[-1]
        headers = dict(scope["headers"])
        assert answer.status == status and content == b"%d" % len(body or b"")
        assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert scope["raw_path"].decode() == path.partition("?")[0]
        assert scope["query_string"].decode() == path.partition("?")[2]
        assert headers[b"authorization"] == b"Bearer k" and b"te" not in headers
        assert headers[b"x-forwarded-for"] == b"9.9.9.9, 127.0.0.1"


def test_a_chunked_request_and_a_large_answer_pass(proxied: Any) -> None:
    client, _ = proxied
    client.connection.request(
        "POST", "/large", iter([b"a" * 100_000] * 5), encode_chunked=True, headers={"transfer-encoding": "chunked"}
    )
    answer = client.connection.getresponse()
    assert answer.headers["x-seen"] == "POST /large 500000"
    assert len(answer.read()) == 3_000_000


def test_head_and_empty_answers_leave_the_connection_usable(proxied: Any) -> None:
    client, _ = proxied
    for method, path, status in (("HEAD", "/", 200), ("GET", "/nothing", 204), ("GET", "/after", 200)):
        client.connection.request(method, path)
        answer = client.connection.getresponse()
        assert answer.status == status
        assert answer.read() == (b"0" if path == "/after" else b"")


def test_a_stream_arrives_while_it_is_made_and_ends_with_its_client(proxied: Any) -> None:
    client, work = proxied
    connection = http.client.HTTPConnection(client.host, client.port, timeout=5)
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.readline() == b"tick 0\n" and answer.readline() == b"tick 1\n"
    answer.close()
    connection.close()
    assert work.gone.wait(5)
    client.connection.request("GET", "/after")
    assert client.connection.getresponse().read() == b"0"


def test_a_broken_off_answer_never_looks_whole(proxied: Any) -> None:
    client, _ = proxied
    connection = http.client.HTTPConnection(client.host, client.port, timeout=5)
    connection.request("GET", "/broken")
    answer = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_many_requests_at_once_share_few_connections(proxied: Any) -> None:
    client, _ = proxied
    results: list[int] = []

    def ask() -> None:
        connection = http.client.HTTPConnection(client.host, client.port, timeout=10)
        for _ in range(5):
            connection.request("POST", "/x", b"abc")
            results.append(int(connection.getresponse().read()))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3] * 100


def asked(client: Any, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, content type and text; every answer that there is no work process yet says when to ask again."""
    client.connection.request("GET", path, headers=headers)
    answer = client.connection.getresponse()
    assert answer.status != 503 or answer.headers["retry-after"] == "1"
    return answer.status, answer.headers["content-type"] or "", answer.read().decode()


def test_while_the_work_process_is_away_programs_and_browsers_are_told_and_the_log_has_two_lines(
    make_context: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "work.sock"
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    with serving(make_context(SPECS), {}, upstream=str(path), ready=lambda: True) as client:
        for _ in range(3):
            status, kind, text = asked(client, "/api/v1/runs")
            error = json.loads(text)["error"]
            assert (status, kind, error["code"]) == (503, "application/json", "engine_unreachable")
            status, kind, text = asked(client, "/runs/abc", accept=browser)
            assert (status, kind) == (503, "text/html; charset=utf-8")
            assert '<meta http-equiv="refresh"' in text and "work process does not answer" in text
        assert asked(client, "/health/live")[0] == 200
        with working(path):
            assert [asked(client, "/x", accept=browser)[0] for _ in range(3)] == [200] * 3
        path.unlink(missing_ok=True)
        assert [asked(client, "/x")[0] for _ in range(3)] == [503] * 3
    log = [
        line.split(maxsplit=2)[1:]
        for line in capsys.readouterr().err.splitlines()
        if "work process" in line or "failed" in line
    ]
    assert [(level, event.partition(" error=")[0]) for level, event in log] == [
        ("error", "work process lost"), ("info", "work process is back"), ("error", "work process lost"),
    ]  # fmt: skip


def test_a_client_that_goes_away_is_no_loss_of_the_work_process(proxied: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client, work = proxied
    for path, seen in (("/stream", work.gone), ("/silent", work.left)):
        connection = http.client.HTTPConnection(client.host, client.port, timeout=5)
        connection.request("GET", path)
        wait_until(lambda path=path: any(scope["path"] == path for scope in work.seen))  # type: ignore[misc]
        connection.close()
        assert seen.wait(5)
    assert asked(client, "/after")[0] == 200
    assert "error" not in capsys.readouterr().err
