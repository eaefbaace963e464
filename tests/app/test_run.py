"""`headrace run`: ready, stop, restart, faults of its processes, and two systems in one data folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from running import HEADRACE, Running, order, write_system


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def lines(*numbers: int) -> bytes:
    return b"\n".join(json.dumps(order(number)).encode() for number in numbers)


def stream(run: Running) -> dict[str, Any]:
    found: dict[str, Any] = run.ask("GET", "/api/v1/streams")[1][0]
    return found


def refused(*arguments: object) -> tuple[int, dict[str, str]]:
    """(exit code, error) of a `headrace run` that does not start."""
    given = [HEADRACE, "run", *map(str, arguments), "--json"]
    answer = subprocess.run(given, capture_output=True, text=True, check=False)
    return answer.returncode, json.loads(answer.stdout)["error"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shop")
    with Running(folder / "data", "--clock", "virtual", file=write_system(folder)) as run:
        yield run


def test_the_ready_line_says_where(shop: Running) -> None:
    assert shop.ready == {"ready": True, "http": f"http://127.0.0.1:{shop.port}", "grpc": None, "kafka": None,
                          "pid": shop.process.pid}  # fmt: skip


def test_pages_load_nothing_from_elsewhere(shop: Running) -> None:
    for path in ("/", "/docs"):
        status, text, headers = shop.ask("GET", path)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8"), text
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "http" not in text.replace("http-equiv", "")


def test_documents_of_the_api(shop: Running) -> None:
    status, metrics, _ = shop.ask("GET", "/metrics")
    assert status == 200
    assert all(
        line.startswith(("#", "headrace_")) and ('system="shop"' in line or line[0] == "#") for line in metrics.splitlines()
    )
    status, schema, _ = shop.ask("GET", "/openapi.json")
    assert status == 200
    request = schema["paths"]["/services/score/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert request["required"] == ["order_id", "customer", "at", "total"]
    assert schema["paths"]["/api/v1/rollouts/{id}/hold"]["post"]["operationId"] == "rollout.hold"
    assert shop.ask("GET", "/health/ready")[:2] == (200, {"ready": True, "draining": False, "problems": {}})


def test_the_virtual_clock_only_advances(shop: Running) -> None:
    assert shop.ask("POST", "/api/v1/clock", b'{"now":"2020-01-01T00:00:00Z"}')[:2] == (
        200, {"now": "2020-01-01T00:00:00Z", "virtual": True},
    )  # fmt: skip
    assert shop.ask("POST", "/api/v1/clock", b'{"now":"2019-01-01T00:00:00Z"}')[0] == 400
    assert shop.ask("POST", "/api/v1/clock", b'{"now":"yesterday"}')[0] == 400
    assert shop.command("status")[1]["now"] == "2020-01-01T00:00:00Z", "commands share the clock of the running system"


def test_wrong_requests_get_one_clear_answer(shop: Running) -> None:
    for method, path, body, status, code in (
        ("GET", "/nothing", None, 404, "not_found"),
        ("DELETE", "/api/v1/runs", None, 405, "usage"),
        ("GET", "/api/v1/runs?modell=a", None, 400, "invalid_input"),
        ("GET", "/api/v1/runs/none", None, 404, "not_found"),
        ("POST", "/api/v1/keys", b'{"name":"a"}', 400, "invalid_input"),
        ("POST", "/api/v1/keys", b'{"name":"a","role":"king"}', 400, "invalid_input"),
        ("POST", "/api/v1/keys", b'{"name":', 400, "invalid_input"),
        ("POST", "/streams/nothing/events", b"{}", 404, "not_found"),
        ("POST", "/streams/order/events", b"[{]", 400, "invalid_input"),
        ("POST", "/services/nothing/predict", b"{}", 404, "not_found"),
    ):
        found, answer, headers = shop.ask(method, path, body)
        assert (found, answer["error"]["code"]) == (status, code), (path, answer)
        assert answer["error"]["hint"]
        assert "x-request-id" in headers or path.startswith("/services")
    large = b'{"name":"' + b"x" * (17 << 20) + b'"}'
    found, answer, _ = shop.ask("POST", "/api/v1/keys", large)
    assert (found, answer["error"]["code"]) == (413, "too_large")
    assert shop.ask("GET", "/", origin="http://evil.example")[0] == 403
    assert shop.ask("GET", "/", host="evil.example")[0] == 403


def test_a_request_id_comes_back_and_is_in_the_log(shop: Running) -> None:
    assert shop.ask("GET", "/api/v1/runs", x_request_id="mine-1")[2]["x-request-id"] == "mine-1"
    created = shop.ask("POST", "/api/v1/rollouts", b'{"service":"nothing","version":1}', x_request_id="mine-2")
    assert created[0] == 404
    until(lambda: "request_id=mine-2" in shop.log.read_text())


def test_a_second_start_is_refused(shop: Running, tmp_path: Path) -> None:
    code, error = refused(shop.file, "--data", shop.data, "--port", 0)
    assert code == 3
    assert f"process {shop.process.pid}" in error["message"]
    code, error = refused("--data", tmp_path / "data", "--port", shop.port)
    assert code == 3
    assert "--port" in error["hint"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--host", "0.0.0.0"], 2, "--tls-cert"),
        (["--host", "0.0.0.0", "--tls-cert", "none.pem"], 2, "belong together"),
        (["nothing.py"], 4, "nothing.py"),
        (["--port", "70000"], 2, "70000"),
        (["--clock", "broken"], 2, "broken"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], code: int, says: str, tmp_path: Path) -> None:
    found, error = refused(*arguments, "--data", tmp_path / "data")
    assert found == code
    assert says in json.dumps(error)
    assert error["hint"]


def test_a_system_goes_on_where_it_was_however_it_ended(tmp_path: Path) -> None:
    file, data = write_system(tmp_path), tmp_path / "data"
    with Running(data, file=file) as run:
        assert run.ask("POST", "/streams/order/events", lines(1, 2, 3))[:2] == (
            200, {"stream": "order", "appended": 3, "offset": 0},
        )  # fmt: skip
        until(lambda: stream(run)["accepted"] == 3)
        for body in (None, b"", b"{", b"{}", b'{"now":5}', b'{"now":"2999-01-01T00:00:00Z"}'):
            for content_type in ("application/json", "text/plain"):
                status, answer, _ = run.ask("POST", "/api/v1/clock", body, content_type=content_type)
                assert (status, answer["error"]["code"]) == (403, "denied"), "its clock is real"
                assert "--clock virtual" in answer["error"]["hint"]
        assert run.stop(signal.SIGINT) == 0
    with Running(data, file=file) as run:
        assert run.ask("POST", "/streams/order/events", lines(3, 4))[1]["offset"] == 3
        first = serve_pid(data)
        os.kill(first, signal.SIGKILL)
        until(lambda: serve_pid(data) != first)
        until(lambda: run.ask("GET", "/health/ready")[0] == 200)
        child = serve_pid(data)
        run.process.kill()
        run.process.wait(10)
        until(lambda: not running(child))
    assert ledgers_leader(data) == f"{socket.gethostname()}:{data.resolve()}/run/shop", "the next process need not wait"
    with Running(data, "--port", run.port, file=file) as run:
        until(lambda: stream(run)["position"] == 5)
        counts = stream(run)
        assert {name: counts[name] for name in ("accepted", "redelivered", "quarantined", "lag")} == {
            "accepted": 4, "redelivered": 1, "quarantined": 0, "lag": 0,
        }  # fmt: skip


def ledgers_leader(data: Path) -> str:
    """Who extended the ledger last."""
    with closing(sqlite3.connect(data / "catalog.sqlite")) as catalog:
        return str(catalog.execute("select holder from leases where name = 'ledger/sequencer'").fetchone()[0])


def serve_pid(data: Path) -> int:
    text = (data / "run" / "shop" / "serve.pid").read_text()
    return int(text) if text else 0


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_two_systems_live_in_one_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    one, two = write_system(tmp_path, "shop"), write_system(tmp_path, "market")
    with Running(data, file=one) as shop, Running(data, file=two) as market:
        shop.ask("POST", "/streams/order/events", lines(1, 2, 3))
        market.ask("POST", "/streams/order/events", lines(7))
        until(lambda: (stream(shop)["accepted"], stream(market)["accepted"]) == (3, 1))
        code, answer = shop.command("status")
        assert (code, answer["error"]["code"]) == (2, "usage")
        assert "`market`" in answer["error"]["message"] and "`shop`" in answer["error"]["message"]
        key = shop.command("keys", "create", "--name", "a", "--role", "admin", "--system", "shop")[1]["key"]
        until(lambda: shop.ask("GET", "/api/v1/status")[0] == 401)
        assert shop.ask("GET", "/api/v1/status", key=key)[0] == 200
        assert market.ask("GET", "/api/v1/status")[0] == 200, "the key of one system closes no other"
        assert market.ask("GET", "/api/v1/status", key=key)[0] == 401
        for run, own, other in ((shop, "shop", "market"), (market, "market", "shop")):
            text = run.ask("GET", "/metrics", key=key if run is shop else "")[1]
            assert f'system="{own}"' in text and f'system="{other}"' not in text
