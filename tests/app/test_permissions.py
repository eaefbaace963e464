"""Every route of both processes, asked without credentials and with each role, against `docs/permissions.md`, cell by cell."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from installation import open_world
from running import Running, write_system

from headrace.app.http import control_plane, doors
from headrace.app.operations import OPERATIONS
from headrace.app.principals import Callers
from headrace.app.routes import PUBLIC, Door, Routes
from headrace.app.work import Work
from headrace.governance.matrix import DOORS, render_matrix
from headrace.kernel.identity import Permission, Role

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
SERVED = {"POST /services/{service}/predict", "POST /services/{service}/predict/batch", "POST /predict",
          "POST /features/{name}/read"}  # fmt: skip
"""Routes of the serve process; all others of both pass through the table of the work process."""


def tables() -> dict[str, dict[str, str]]:
    """Door, such as `GET /api/v1/runs`, to {heading: cell}, from the page."""
    found: dict[str, dict[str, str]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        lines = [line.strip("|") for line in section.splitlines() if line.startswith("|")]
        cells = [[cell.strip().strip("`") for cell in line.split("|")] for line in lines]
        head = cells[0]
        for row in cells[2:]:
            named = dict(zip(head, row, strict=True))
            door = named.get("route", named.get("door", "none"))
            if door != "none":
                found[door] = named
    return found


def filled(path: str) -> str:
    """The path with a value for each parameter: the declared service, else something that is not there."""
    return re.sub(r"{(\w+)}", lambda match: "score" if match[1] == "service" else "1", path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("permissions")
    flags = ("--behind-proxy", "--log-format", "json", "--clock", "virtual")  # (a real clock refuses everybody)
    with Running(folder / "data", *flags, file=write_system(folder)) as running:
        assert running.ask("GET", "/")[0] == 401, "behind a proxy a key is needed before there is one"
        yield running


@pytest.fixture(scope="module")
def keys(run: Running) -> dict[Role, str]:
    first = run.command("keys", "create", "--name", "first", "--role", "admin")[1]["key"]
    time.sleep(0.6)  # (a process keeps what it knows of keys for half a second)
    made = {}
    for role in Role:
        body = f'{{"name":"{role}","role":"{role}"}}'.encode()
        made[role] = run.ask("POST", "/api/v1/keys", body, key=first)[1]["key"]
    time.sleep(0.6)
    return made


def asked(run: Running, door: str, key: str) -> int:
    method, _, path = door.partition(" ")
    return run.ask(method, filled(path), b"{}" if method == "POST" else None, key=key)[0]


def test_the_page_lists_every_route() -> None:
    assert PAGE.read_text() == render_matrix(OPERATIONS.values())
    registered = {f"{door.method} {door.path}" for door in doors()}
    assert set(tables()) == registered | SERVED
    assert set(DOORS) <= set(tables())


@pytest.mark.parametrize("door", sorted(tables()) if PAGE.exists() else [])
def test_every_cell_is_what_the_door_answers(door: str, run: Running, keys: dict[Role, str]) -> None:
    row = tables()[door]
    public = row["permission"] == "none"
    assert (asked(run, door, "") == 401) is not public
    assert (asked(run, door, "hr_0000000000000000_" + "0" * 64) == 401) is not public
    for role in Role:
        status = asked(run, door, keys[role])
        assert status != 401, (door, role)
        assert (status == 403) is (row[role] == "no"), (door, role, status)


def test_what_is_not_registered_is_not_there(run: Running, keys: dict[Role, str]) -> None:
    for path in ("/redoc", "/api/v1", "/api/v1/nothing", "/services", "/static/x"):
        assert run.ask("GET", path, key=keys[Role.ADMIN])[0] == 404


def test_who_may_not_predict_learns_no_names_of_services(run: Running, keys: dict[Role, str]) -> None:
    for path in ("/services/nothing/predict", "/services/score", "/services/score/predict"):
        assert [run.ask("GET", path, key=key)[0] for key in ("", keys[Role.VIEWER])] == [401, 403]
    assert "`score`" in run.ask("POST", "/services/nothing/predict", b"{}", key=keys[Role.SERVICE])[1]["error"]["message"]


def test_a_browser_may_read_with_the_key_as_password(run: Running, keys: dict[Role, str]) -> None:
    status, _, headers = run.ask("GET", "/")
    assert (status, headers["www-authenticate"].partition(" ")[0]) == (401, "Basic")
    basic = "Basic " + base64.b64encode(f"me:{keys[Role.ADMIN]}".encode()).decode()
    assert run.ask("GET", "/", Authorization=basic)[0] == 200
    assert run.ask("POST", "/api/v1/clock", b"{}", Authorization=basic)[0] == 401, "a browser sends it with foreign posts too"


def test_commands_over_http_are_the_role_of_their_key(run: Running, keys: dict[Role, str]) -> None:
    url = ("--url", f"http://127.0.0.1:{run.port}", "--api-key")
    assert run.command("streams", "list", *url, keys[Role.VIEWER])[1][0]["stream"] == "order"
    assert run.command("keys", "list", *url, keys[Role.VIEWER])[0] == 5
    assert run.command("keys", "list", *url, "hr_wrong")[0] == 5
    code, answer = run.command("audit", "verify", *url, keys[Role.ADMIN])
    assert (code, answer["error"]["code"]) == (2, "usage"), "it reads files, so it works on the data folder only"


def test_a_retry_over_http_gets_the_first_answer(run: Running, keys: dict[Role, str]) -> None:
    body = b'{"name":"once","role":"viewer"}'
    first, again = (run.ask("POST", "/api/v1/keys", body, key=keys[Role.ADMIN], Idempotency_Key="k-1") for _ in range(2))
    assert first[0] == again[0] == 200
    assert again[1] == {**first[1], "key": "***"}
    assert (
        run.ask("POST", "/api/v1/keys", b'{"name":"two","role":"viewer"}', key=keys[Role.ADMIN], Idempotency_Key="k-1")[0]
        == 409
    )


def test_no_key_is_in_the_log_or_in_the_data_folder(run: Running, keys: dict[Role, str]) -> None:
    run.ask("GET", "/api/v1/keys", key=keys[Role.ADMIN])
    lines = run.log.read_text().splitlines()
    assert {"at", "level", "event"} <= set.intersection(*(set(json.loads(line)) for line in lines))
    secrets = [key.rpartition("_")[2].encode() for key in keys.values()]
    for path in (run.log, *(p for p in run.data.rglob("*") if p.is_file())):
        with suppress(FileNotFoundError):  # replaced by the next one meanwhile
            assert not any(secret in path.read_bytes() for secret in secrets), path


def test_a_route_without_a_permission_cannot_be_registered() -> None:
    routes = Routes(FastAPI(), None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="declares no permission"):
        routes.add(Door("GET", "/x", None, lambda: None))  # type: ignore[arg-type]
    routes.add(Door("GET", "/x", Permission.READ, lambda: None))
    with pytest.raises(ValueError, match="twice"):
        routes.add(Door("GET", "/x", PUBLIC, lambda: None))


def test_every_route_of_the_app_was_registered_with_a_permission(tmp_path: Path) -> None:
    _, routes = control_plane(Work(open_world(tmp_path)), keys_required=False)
    found = {(method, r.path) for r in routes.app.routes if isinstance(r, APIRoute) for method in r.methods}
    assert found == set(routes.doors)
    assert len(routes.app.routes) == len(found)
    assert isinstance(routes.callers, Callers)
