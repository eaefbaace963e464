"""POST /streams/{name}/events on a running system."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import HEADRACE, Running, order, write_system

from headrace.app.cli import run_command


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shop")
    with Running(folder / "data", file=write_system(folder)) as run:
        yield run


def lines(*numbers: int) -> bytes:
    return b"\n".join(json.dumps(order(number)).encode() for number in numbers)


def append(run: Running, body: bytes, **headers: str) -> tuple[int, Any]:
    return run.ask("POST", "/streams/order/events", body, **headers)[:2]


def end(run: Running) -> int:
    return int(run.ask("GET", "/api/v1/streams")[1][0]["end"])


def test_what_was_found_bad_is_told_through_a_url_too(
    shop: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(["settled", "--url", shop.ready["http"], "--json"]) == 1, "a real clock never rests"
    assert json.loads(capsys.readouterr().out)["settled"] is False
    monkeypatch.setenv("HEADRACE_URL", shop.ready["http"])
    assert run_command(["parity", "score", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["values_different"] == 0


def test_one_object_an_array_and_lines_are_appended(shop: Running) -> None:
    first = end(shop)
    for place, body in enumerate((lines(1), b"[" + lines(2) + b"," + lines(3) + b"]", lines(4, 5, 6), b"")):
        answer = {"stream": "order", "appended": (1, 2, 3, 0)[place], "offset": (first, first + 1, first + 3, None)[place]}
        assert append(shop, body) == (200, answer)
    assert end(shop) == first + 6


def test_a_retry_under_a_key_gets_the_first_answer_and_appends_nothing(shop: Running) -> None:
    answers = [append(shop, lines(11, 12), idempotency_key="k 1 ü") for _ in range(3)]
    assert answers[0][0] == 200
    assert answers[0][1]["appended"] == 2
    assert answers[0][1]["offset"] + 2 == end(shop)
    assert answers[1:] == answers[:1] * 2
    assert append(shop, gzip.compress(lines(11, 12)), idempotency_key="k 1 ü", content_encoding="gzip") == answers[0]
    status, answer = append(shop, lines(13), idempotency_key="k 1 ü")
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert append(shop, b"", idempotency_key="k2") == append(shop, b"", idempotency_key="k2")
    assert answers[0][1]["offset"] + 2 == end(shop)
    assert append(shop, lines(14), idempotency_key="x" * 256)[0] == 400


def test_a_packed_body_is_unpacked_to_the_limit_of_a_body(shop: Running) -> None:
    first = end(shop)
    assert append(shop, gzip.compress(lines(21, 22)), content_encoding="GZIP")[1]["appended"] == 2
    for body, encoding, status in (
        (gzip.compress(b" " * (17 << 20)), "gzip", 413),
        (b" " * (17 << 20), "identity", 413),
        (b"{}", "gzip", 400),
        (gzip.compress(b"{}")[:-4], "gzip", 400),
        (gzip.compress(b"{}") + b"x", "gzip", 400),
        (b"{}", "br", 400),
    ):
        found, answer = append(shop, body, content_encoding=encoding)
        assert (found, answer["error"]["code"]) == (status, "too_large" if status == 413 else "invalid_input")
    assert end(shop) == first + 2


@pytest.mark.slow
def test_a_schema_that_stored_events_do_not_allow_is_refused_at_the_start(tmp_path: Path) -> None:
    file = write_system(tmp_path)
    with Running(tmp_path / "data", file=file):
        pass
    text = file.read_text()
    file.write_text(text.replace("total: float", "total: float\n    note: str").replace("customer: str", "customer: int"))
    command = [HEADRACE, "run", str(file), "--data", str(tmp_path / "data"), "--port", "0", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    error = json.loads(answer.stdout)["error"]
    assert (answer.returncode, error["code"]) == (3, "invalid_system")
    assert error["changes"] == [
        {"stream": "order", "field": "customer", "was": "str", "is": "int"},
        {"stream": "order", "field": "note", "was": None, "is": "str"},
    ]
    file.write_text(text.replace("total: float", 'total: float\n    note: str = "none"'))
    with Running(tmp_path / "data", file=file) as run:
        assert append(run, lines(1))[1]["appended"] == 1
