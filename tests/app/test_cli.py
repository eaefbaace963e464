"""The command line: help without rooms, one JSON document, exit codes, arguments as words and as options."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from app_world import Counter
from running import HEADRACE, order, write_system

import headrace
from headrace.app.cli import run_command
from headrace.app.command_table import WORDS
from headrace.app.operation_commands import given_arguments
from headrace.app.operations import OPERATIONS
from headrace.app.output import show
from headrace.app.world import remember, world
from headrace.data.appending import append_raw
from headrace.kernel.errors import UsageError
from headrace.kernel.settings import Settings
from headrace.system.load import load_system


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = run_command([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder in which the system `shop` ran once."""
    file = write_system(tmp_path)
    settings = Settings(data=tmp_path / "data")
    ctx = world(settings, "shop", load_system(str(file)).specs(), clock="real", file=str(file))
    remember(ctx)
    ctx.close()
    return settings.data


def test_the_command_table_is_the_operation_table() -> None:
    found = {(o.cli.partition(" ")[0], o.function.__module__) for o in OPERATIONS.values() if o.cli is not None}
    listed = {(name, m) for name, word in WORDS.items() if not word.special for m in (word.module, *word.elsewhere.values())}
    assert found == listed
    rooms = {path.parent.name for path in Path(headrace.__file__).parent.glob("*/operations.py")} - {"app"}
    assert rooms == {o.function.__module__.split(".")[1] for o in OPERATIONS.values()} - {"app"}, "every room is imported"


def test_help_imports_no_room() -> None:
    code = "import sys; from headrace.app.cli import run_command; run_command(['--help']); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "polars", "sqlalchemy", "fastapi", "rich"} & set(answer.stdout.splitlines()[-1].split())
    assert all(word.summary.split()[0] in answer.stdout for word in WORDS.values())


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["nonsense"], 2, "usage"),
        (["status", "--nonsense"], 2, "usage"),
        (["runs", "show"], 2, "usage"),
        (["runs", "show", "a", "b"], 2, "usage"),
        (["runs", "show", "a"], 4, "not_found"),
        (["rollout"], 2, "usage"),
        (["keys", "create", "--name", "a", "--role", "king"], 2, "usage"),
        (["quarantine", "list", "ordr"], 4, "not_found"),
        (["ingest", "order", "nothing.ndjson"], 4, "not_found"),
        (["status", "--system", "market"], 4, "not_found"),
        (["status", "--url", "http://127.0.0.1:1"], 2, "usage"),
        (["datasets", "show", "none@1"], 4, "not_found"),
        (["datasets", "diff", "none@1", "none@2"], 4, "not_found"),
        (["datasets", "vacuum", "--hours", "0"], 3, "invalid_input"),
        (["why", "shop-0"], 4, "not_found"),
        (["registry", "list", "slient"], 4, "not_found"),
        (["features", "export", "recent", "--out", "."], 2, "usage"),
        (["predictions", "export", "score", "--out", "/dev/null/p.parquet"], 2, "usage"),
        (["predictions", "export", "score", "--out", "shop.py"], 2, "usage"),
        (["features", "export", "recent", "--out", "shop.py"], 2, "usage"),
    ],
)
def test_errors_have_their_exit_code(
    arguments: list[str], code: int, kind: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, answer = run(capsys, *arguments, "--data", data)
    assert (found, answer["error"]["code"]) == (code, kind)
    assert answer["error"]["message"] and answer["error"]["hint"]


def test_not_found_lists_what_is_known(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "`order`" in run(capsys, "quarantine", "list", "ordr", "--data", data)[1]["error"]["message"]
    assert "`shop`" in run(capsys, "status", "--system", "market", "--data", data)[1]["error"]["message"]


@pytest.mark.parametrize(
    ("command", "code", "says", "hint"),
    [
        ("registry register slient --run 1", 4, "unknown model `slient`; known: `silent`", "known model names"),
        ("registry register silent --run 1", 4, "unknown run `1`; known: none", "there is no run yet"),
        ("registry register silent", 2, "a run or of an artifact", "--run ID"),
        ("registry register silent --artifact none.onnx", 4, "there is no file `none.onnx`", "ONNX"),
        (
            "registry approve silent 1 --reason good",
            4,
            "`silent` has no version 1: none is registered",
            "registry register silent",
        ),
        ("rollout start scores 1", 4, "unknown service `scores`; known: `score`", "known service names"),
        ("rollout start score 1", 4, "model `silent` has no version 1: none is registered", "registry register silent --run"),
        ("rollout start score one", 2, "--version=`one`; allowed: a whole number", "mend"),
        ("rollout start score", 2, "needs --version", "--help"),
        ("rollout status scores", 4, "unknown service or rollout `scores`; known: `score`", "known service or rollout names"),
    ],
)
def test_wrong_names_at_a_release_say_what_is_known(
    command: str, code: int, says: str, hint: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, answer = run(capsys, *command.split(), "--data", data)
    assert (found, says in answer["error"]["message"], hint in answer["error"]["hint"]) == (code, True, True), answer


def test_no_data_folder_is_not_made_by_looking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, "status", "--data", tmp_path / "none")
    assert (code, answer["error"]["code"]) == (4, "not_found")
    assert not (tmp_path / "none").exists()


def test_nobody_at_the_url_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, "status", "--url", "http://127.0.0.1:1")
    assert (code, answer["error"]["code"]) == (6, "engine_unreachable")
    code, answer = run(capsys, "status", "--url", "http://127.0.0.1:port")
    assert (code, answer["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"-ERR unknown command\r\n", "does not speak HTTP"), (b"HTTP/1.0 200 OK\r\n\r\n<html>", "is no headrace answer")],
)
def test_what_is_no_headrace_at_the_url_is_told(answer: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code, told = run(capsys, "status", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert code == 1
    assert message in told["error"]["message"]
    assert told["error"]["hint"] == "check --url"


def test_a_command_of_the_data_folder_says_so_of_a_url_from_the_environment(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_URL", "http://127.0.0.1:1")
    code, answer = run(capsys, "ingest", "order", "orders.csv")
    assert (code, answer["error"]["code"]) == (2, "usage")
    assert "HEADRACE_URL" in answer["error"]["hint"]
    code, answer = run(capsys, "ingest", "order", "orders.csv", "--data", data)
    assert (code, answer["error"]["code"]) == (4, "not_found"), "what the hint says was done"


def test_options_may_stand_before_the_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--json", "--data", str(data), "status"]) == 0
    assert json.loads(capsys.readouterr().out)["system"] == "shop"


def test_text_for_people_and_errors_on_stderr(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["streams", "list", "--data", str(data)]) == 0
    assert "order" in capsys.readouterr().out
    assert run_command(["quarantine", "list", "ordr", "--data", str(data)]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and "\nhint: " in printed.err


def test_a_system_file_that_moved_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data.parent / "shop.py").unlink()
    code, answer = run(capsys, "status", "--data", data)
    assert (code, answer["error"]["code"]) == (4, "not_found")
    assert "shop.py" in answer["error"]["message"]


def test_before_the_first_run_keys_name_their_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    code, answer = run(capsys, "keys", "create", "--name", "a", "--role", "admin", "--data", data)
    assert (code, answer["error"]["code"]) == (2, "usage")
    assert "--system" in answer["error"]["hint"]
    code, answer = run(capsys, "keys", "create", "--name", "a", "--role", "admin", "--data", data, "--system", "shop")
    assert code == 0
    assert answer["key"].startswith("hr_")


def test_words_fill_required_arguments_in_order() -> None:
    operation = Counter().operation()
    assert given_arguments(operation, ["a"], {"times": "3"}) == {"name": "a", "times": 3}
    assert given_arguments(operation, [], {"name": "a"}) == {"name": "a"}
    with pytest.raises(UsageError, match="one word too many"):
        given_arguments(operation, ["a", "b"], {})
    with pytest.raises(UsageError, match="--name"):
        given_arguments(operation, [], {})
    with pytest.raises(UsageError, match="whole number"):
        given_arguments(operation, ["a"], {"times": "many"})


def test_python_keywords_lose_their_underscore(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"from_": "a", "at": float("nan")}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"from": "a", "at": None}]


def test_a_column_of_lists_is_joined_and_stays_when_they_are_full(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "card", "versions": [], "warm": []}, {"name": "card", "versions": ["a@1", "b@2"], "warm": [1, 2]}]
    for shown in (rows, rows[:1], rows[1:]):
        show(shown, as_json=False)
        head, _, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["name", "versions", "warm"]
    assert lines[0].split("   ") == ["card", "a@1, b@2", "1, 2"]


def test_join_needs_no_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("k,at\na,2024-01-02T00:00:00\n")
    (tmp_path / "view.csv").write_text("k,at,x\na,2024-01-01T00:00:00,7\n")
    view = {"name": "v", "path": "view.csv", "keys": ["k"], "time": "at"}
    (tmp_path / "spec.json").write_text(json.dumps({"labels": {"path": "labels.csv", "time": "at"}, "views": [view]}))
    code, answer = run(capsys, "features", "join", "spec.json", "--out", "out.parquet")
    assert (code, pl.read_parquet("out.parquet")["v__x"].to_list()) == (0, [7]), answer
    assert not (tmp_path / ".headrace").exists()
    code, answer = run(capsys, "features", "join", "spec.json", "--out", "out.parquet", "--url", "http://127.0.0.1:1")
    assert (code, answer["error"]["code"]) == (2, "usage")


def test_the_installed_command_starts() -> None:
    answer = subprocess.run([HEADRACE, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("headrace ")


@pytest.mark.parametrize("name", ["catalog.sqlite", "events/offsets.sqlite", "online/shop/data.mdb"])
def test_a_damaged_file_of_the_data_folder_is_named(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for beside in data.glob(f"{name}-*"):
        beside.unlink()
    (data / name).write_bytes(b"no database" * 1000)
    code, answer = run(capsys, "status", "--data", data)
    assert (code, answer["error"]["code"]) == (6, "engine_unreachable")
    assert str(data / name).removesuffix("/data.mdb") in answer["error"]["message"]
    assert answer["error"]["hint"]


def test_doctor_answers_about_a_damaged_catalog(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "catalog.sqlite").write_bytes(b"no database" * 1000)
    code, answer = run(capsys, "doctor", "--data", data)
    assert (code, [f["check"] for f in answer["findings"] if not f["ok"]]) == (1, ["catalog"])


@pytest.mark.parametrize("damage", [None, b""])
def test_a_catalog_that_is_gone_refuses_the_start(
    damage: bytes | None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.py"
    ctx = world(Settings(data=data), "shop", load_system(str(file)).specs(), clock="real", file=str(file))
    append_raw(ctx, "order", [json.dumps(order(1)).encode()])
    ctx.close()
    for path in data.glob("catalog.sqlite*"):
        path.unlink()
    if damage is not None:
        (data / "catalog.sqlite").write_bytes(damage)
    command = [HEADRACE, "run", file, "--data", data, "--port", "0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert answer.returncode == 3, answer.stderr
    assert ("is missing" if damage is None else "is empty") in answer.stderr
    assert "headrace restore" in answer.stderr
    assert not (data / "run/shop/ready.json").exists()
    code, found = run(capsys, "doctor", "--data", data)
    bad = [f for f in found["findings"] if not f["ok"]]
    assert (code, [f["check"] for f in bad]) == (1, ["catalog"])
    assert str(data / "catalog.sqlite") in bad[0]["cause"]
    assert "headrace restore" in bad[0]["command"]
    assert (data / "catalog.sqlite").exists() == (damage is not None), "looking made none"


def test_a_catalog_of_another_engine_is_named_though_events_are_there(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "events/shop").mkdir()
    monkeypatch.setenv("HEADRACE_CATALOG", "postgresql://localhost/headrace")
    code, answer = run(capsys, "status", "--data", data)
    assert (code, "names the engine `postgresql`" in answer["error"]["message"]) == (3, True)
