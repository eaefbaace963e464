"""`headrace run`: ready, stop, restart, faults of its processes, and two systems in one data folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running import HEADRACE, Running, order, write_system


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def lines(*numbers: int) -> bytes:
    return b"\n".join(json.dumps(order(number)).encode() for number in numbers)


def test_an_empty_platform_answers_on_every_page(tmp_path: Path) -> None:
    with Running(tmp_path / "data") as run:
        assert run.ready.keys() == {"ready", "http", "grpc", "kafka", "pid"}
        assert run.ready["pid"] == run.process.pid
        for path in ("/", "/docs"):
            status, text, headers = run.ask("GET", path)
            assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8"), text
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "http" not in text.replace("http-equiv", "").replace(run.ready["http"], ""), (
                "a page loads nothing from elsewhere"
            )
        status, metrics, _ = run.ask("GET", "/metrics")
        assert status == 200
        assert all(line.startswith(("#", "headrace_")) for line in metrics.splitlines())
        assert run.ask("GET", "/health/ready")[:2] == (200, {"ready": True, "draining": False, "problems": {}})
        status, schema, _ = run.ask("GET", "/openapi.json")
        assert (status, "/api/v1/runs/{run}" in schema["paths"]) == (200, True)


def test_a_system_goes_on_where_it_was(tmp_path: Path) -> None:
    file = write_system(tmp_path)
    with Running(tmp_path / "data", file=file) as run:
        status, answer, _ = run.ask("POST", "/streams/order/events", lines(1, 2, 3))
        assert (status, answer) == (200, {"stream": "order", "appended": 3, "offset": 0})
        until(lambda: run.command("streams", "list")[1][0]["accepted"] == 3)
        assert run.stop(signal.SIGINT) == 0
    with Running(tmp_path / "data", file=file) as run:
        assert run.ask("POST", "/streams/order/events", lines(3, 4))[1]["offset"] == 3
        until(lambda: run.command("streams", "list")[1][0]["position"] == 5)
        stream = run.command("status")[1]["streams"][0]
        assert {name: stream[name] for name in ("accepted", "redelivered", "quarantined", "lag")} == {
            "accepted": 4, "redelivered": 1, "quarantined": 0, "lag": 0,
        }  # fmt: skip


def test_killed_processes_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    file = write_system(tmp_path)
    data = tmp_path / "data"
    serve_pid = lambda: int((data / "run" / "shop" / "serve.pid").read_text())  # noqa: E731
    with Running(data, file=file) as run:
        assert run.ask("POST", "/streams/order/events", lines(1, 2))[0] == 200
        first = serve_pid()
        os.kill(first, signal.SIGKILL)
        until(lambda: serve_pid() != first)
        until(lambda: run.ask("GET", "/health/ready")[0] == 200)
        child = serve_pid()
        run.process.kill()
        run.process.wait(10)
        until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    with Running(data, "--port", run.port, file=file) as again:
        until(lambda: again.command("streams", "list")[1][0]["accepted"] == 2)


def test_two_systems_live_in_one_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    one, two = write_system(tmp_path, "shop"), write_system(tmp_path, "market")
    with Running(data, file=one) as shop, Running(data, file=two) as market:
        shop.ask("POST", "/streams/order/events", lines(1, 2, 3))
        market.ask("POST", "/streams/order/events", lines(7))
        until(lambda: shop.command("streams", "list", "--system", "shop")[1][0]["accepted"] == 3)
        until(lambda: market.command("streams", "list", "--system", "market")[1][0]["accepted"] == 1)
        code, answer = shop.command("status")
        assert (code, answer["error"]["code"]) == (2, "usage")
        assert "`market`" in answer["error"]["message"] and "`shop`" in answer["error"]["message"]
        code, answer = shop.command("status", "--system", "nobody")
        assert (code, answer["error"]["code"]) == (4, "not_found")
        key = shop.command("keys", "create", "--name", "a", "--role", "admin", "--system", "shop")[1]["key"]
        until(lambda: shop.ask("GET", "/api/v1/status")[0] == 401)
        assert shop.ask("GET", "/api/v1/status", key=key)[0] == 200
        assert market.ask("GET", "/api/v1/status")[0] == 200, "the key of one system closes no other"
        assert market.ask("GET", "/api/v1/status", key=key)[0] == 401
        for run, own, other in ((shop, "shop", "market"), (market, "market", "shop")):
            text = run.ask("GET", "/metrics", key=key if run is shop else "")[1]
            assert f'system="{own}"' in text and f'system="{other}"' not in text


def test_one_system_runs_once(tmp_path: Path) -> None:
    file = write_system(tmp_path)
    with Running(tmp_path / "data", file=file) as run:
        second = subprocess.run(
            [HEADRACE, "run", str(file), "--data", str(tmp_path / "data"), "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 3
        assert f"process {run.process.pid}" in second.stderr


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
    answer = subprocess.run(
        [HEADRACE, "run", *arguments, "--data", str(tmp_path / "data"), "--json"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == code
    assert says in json.dumps(json.loads(answer.stdout))
    assert json.loads(answer.stdout)["error"]["hint"]


def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    with Running(tmp_path / "one") as run:
        answer = subprocess.run(
            [HEADRACE, "run", "--data", str(tmp_path / "two"), "--port", str(run.port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 3
        assert "--port" in answer.stderr


def test_a_proxy_in_front_means_keys(tmp_path: Path) -> None:
    with Running(tmp_path / "data", "--behind-proxy") as run:
        assert run.ask("GET", "/")[0] == 401
        assert run.ask("GET", "/health/live")[0] == 200
        key = run.command("keys", "create", "--name", "a", "--role", "viewer")[1]["key"]
        until(lambda: run.ask("GET", "/", key=key)[0] == 200)


def test_the_virtual_clock_only_advances(tmp_path: Path) -> None:
    with Running(tmp_path / "data", "--clock", "virtual") as run:
        assert run.ask("POST", "/api/v1/clock", b'{"now":"2020-01-01T00:00:00Z"}')[:2] == (
            200, {"now": "2020-01-01T00:00:00Z", "virtual": True},
        )  # fmt: skip
        assert run.ask("POST", "/api/v1/clock", b'{"now":"2019-01-01T00:00:00Z"}')[0] == 400
        assert run.ask("POST", "/api/v1/clock", b'{"now":"yesterday"}')[0] == 400
    with Running(tmp_path / "data", "--clock", "virtual") as run:
        assert run.ask("GET", "/api/v1/clock")[1]["now"] == "2020-01-01T00:00:00Z"
    with Running(tmp_path / "data") as run:
        assert run.ask("POST", "/api/v1/clock", b'{"now":"2999-01-01T00:00:00Z"}')[0] == 403


def test_wrong_requests_get_one_clear_answer(tmp_path: Path) -> None:
    with Running(tmp_path / "data", file=write_system(tmp_path)) as run:
        for method, path, body, status, code in (
            ("GET", "/nothing", None, 404, "not_found"),
            ("DELETE", "/api/v1/runs", None, 405, "method_not_allowed"),
            ("GET", "/api/v1/runs?modell=a", None, 400, "invalid_input"),
            ("GET", "/api/v1/runs/none", None, 404, "not_found"),
            ("POST", "/api/v1/keys", b'{"name":"a"}', 400, "invalid_input"),
            ("POST", "/api/v1/keys", b'{"name":"a","role":"king"}', 400, "invalid_input"),
            ("POST", "/api/v1/keys", b'{"name":', 400, "invalid_input"),
            ("POST", "/streams/nothing/events", b"{}", 404, "not_found"),
            ("POST", "/streams/order/events", b"[{]", 400, "invalid_input"),
            ("POST", "/services/nothing/predict", b"{}", 404, "not_found"),
        ):
            found, answer, headers = run.ask(method, path, body)
            assert (found, answer["error"]["code"]) == (status, code), (path, answer)
            assert answer["error"]["hint"]
            assert "x-request-id" in headers or path.startswith("/services")
        large = b'{"name":"' + b"x" * (17 << 20) + b'"}'
        assert run.ask("POST", "/api/v1/keys", large)[1]["error"]["code"] == "too_large"
        assert run.ask("GET", "/", origin="http://evil.example")[0] == 403
        assert run.ask("GET", "/", host="evil.example")[0] == 403
