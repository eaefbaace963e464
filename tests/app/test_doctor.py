"""`headrace doctor` on a data folder whose parts do not fit together: each finding has its cause and its command."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from running import HEADRACE, order, write_system

from headrace.app.cli import run_command
from headrace.app.world import remember, world
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.governance.backup import backup
from headrace.kernel.identity import LOCAL
from headrace.kernel.settings import Settings
from headrace.ledger.outbox import record
from headrace.ledger.sequencer import Sequencer
from headrace.registry.tables import VERSIONS
from headrace.system.load import load_system

ARTIFACT = b"an artifact"


def act(ctx: Context, times: int) -> None:
    with ctx.catalog.transaction() as connection:
        for number in range(times):
            record(connection, ctx.system, "registry.approve", f"silent {number}", {}, LOCAL, number)
    sequencer = Sequencer(ctx)
    assert sequencer.step() == times
    sequencer.close()


def opened(folder: Path) -> Context:
    file = folder / "shop.py"
    settings = Settings(data=folder / "data", signing_key=str(folder / "signing.key"))
    return world(settings, "shop", load_system(str(file)).specs(), clock="real", file=str(file))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with events, a version and a ledger of 300 leaves, and its backup of when it had 3."""
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", str(tmp_path / "signing.key"))
    write_system(tmp_path)
    ctx = opened(tmp_path)
    remember(ctx)
    append_raw(ctx, "order", [json.dumps(order(number)).encode() for number in range(5)])
    assert StreamApplier(ctx, ctx.specs.get(StreamSpec, "order"), []).step() == 5
    facts = {name: ctx.blobs.put("shop", name.encode()) for name in ("golden", "reference")}
    with ctx.catalog.transaction() as connection:
        values = {"system": "shop", "name": "silent", "number": 1, "engine": "onnx", "content_hash": "", "created_at": 0}
        artifact = ctx.blobs.put("shop", ARTIFACT)
        connection.execute(VERSIONS.insert().values(**values, artifact=artifact, facts=facts))
    act(ctx, 3)
    backup(ctx, tmp_path / "backup")
    act(ctx, 297)
    ctx.close()
    return tmp_path


def blob(folder: Path) -> Path:
    return next(path for path in folder.glob("data/blobs/shop/*/*") if path.read_bytes() == ARTIFACT)


def exchange_catalog(folder: Path) -> None:
    for path in folder.glob("data/catalog.sqlite*"):
        path.unlink()
    shutil.copy(folder / "backup/catalog.sqlite", folder / "data/catalog.sqlite")


def exchange_audit(folder: Path) -> None:
    shutil.rmtree(folder / "data/audit")
    shutil.copytree(folder / "backup/audit", folder / "data/audit")


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "a blob lost": (
        lambda f: blob(f).unlink(),
        "blob of shop",
        "the artifact of model `silent` version 1",
        "cp BACKUP/blobs/shop/",
    ),
    "a blob cut": (
        lambda f: blob(f).write_bytes(ARTIFACT[:-1]),
        "blob of shop",
        "does not match its digest",
        "cp BACKUP/blobs/",
    ),
    "the log lost": (lambda f: shutil.rmtree(f / "data/events/shop"), "log of shop/order", "applied up to offset 5", "restore"),
    "audit lost": (lambda f: shutil.rmtree(f / "data/audit"), "ledger", "has published", "headrace restore"),
    "audit older": (exchange_audit, "ledger", "` 3, the catalog has published", "headrace restore"),
    "a tile lost": (lambda f: (f / "data/audit/tile/0/000").unlink(), "ledger", "is missing", "restore"),
    "an entry bundle lost": (lambda f: (f / "data/audit/tile/entries/000").unlink(), "ledger", "is missing", "restore"),
    "catalog older": (exchange_catalog, "ledger", "the catalog is older", "headrace restore"),
    "key lost": (lambda f: (f / "signing.key").unlink(), "ledger", "signing key", "HEADRACE_SIGNING_KEY"),
}


def findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, object]]]:
    code = run_command(["doctor", "--data", str(folder / "data"), "--port", "1", "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, [finding for finding in found if not finding["check"].startswith("port")]


def test_a_sound_data_folder_has_no_bad_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = findings(folder, capsys)
    assert [f for f in found if not f["ok"]] == []
    shown = {f["check"]: f["found"] for f in found}
    assert str(shown["ledger"]).startswith("300 leaves")
    assert str(shown["blobs of shop"]).startswith("3 are there, 3 read")
    assert str(shown["logs of shop"]).startswith("1 applied")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_found_with_cause_and_command(damage: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_, check, cause, command = DAMAGES[damage]
    break_(folder)
    code, found = findings(folder, capsys)
    bad = [f for f in found if not f["ok"]]
    assert (code, [f["check"] for f in bad]) == (1, [check])
    assert cause in str(bad[0]["cause"])
    assert command in str(bad[0]["command"])


def test_the_command_for_a_blob_mends_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blob(folder).write_bytes(b"other bytes")
    [bad] = [f for f in findings(folder, capsys)[1] if not f["ok"]]
    _, source, target = str(bad["command"]).replace("BACKUP", str(folder / "backup")).split()
    shutil.copy(source, target)
    assert [f for f in findings(folder, capsys)[1] if not f["ok"]] == []


def diagnosed(capsys: pytest.CaptureFixture[str], data: Path) -> list[dict[str, str]]:
    """The bad findings about a data folder and the settings, each with cause and command."""
    code = run_command(["doctor", "--data", str(data), "--port", "1", "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    bad = [f for f in found if not f["ok"] and not f["check"].startswith("port")]
    assert code == 1 and all(f["cause"] and f["command"] for f in bad)
    return bad


def test_every_url_that_run_refuses_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, url in (("EVENTS", "kafka://k"), ("LAKE", "s3://b"), ("CATALOG", "postgresql://u@h/d")):
        monkeypatch.setenv(f"HEADRACE_{setting}", url)
    bad = diagnosed(capsys, tmp_path / "data")
    assert {f["check"] for f in bad} == {"engine URLs"}
    assert [f["command"] for f in bad] == ["unset HEADRACE_EVENTS", "unset HEADRACE_LAKE", "unset HEADRACE_CATALOG"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("file", "says"), [("absent/x.db", "there is no folder"), ("junk.db", "file is not a database")])
def test_a_catalog_that_cannot_be_opened_is_found_and_refused_alike(
    file: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk.db").write_bytes(b"no database " * 100)
    monkeypatch.setenv("HEADRACE_CATALOG", f"sqlite:///{tmp_path / file}")
    [bad] = diagnosed(capsys, tmp_path / "data")
    assert says in bad["cause"]
    answer = subprocess.run([HEADRACE, "run", "--data", str(tmp_path / "data")], capture_output=True, text=True, check=False)
    assert answer.returncode == 6
    assert answer.stderr.startswith(f"error: {bad['cause']}\nhint: ")
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("place", ["/proc/headrace", "file", "file/below"])
def test_a_data_folder_that_cannot_be_made_is_found(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    bad = diagnosed(capsys, tmp_path / place)
    assert bad[0]["check"] == "data folder"
    assert str(tmp_path / place) in bad[0]["cause"]
    assert run_command(["run", "--data", str(tmp_path / place), "--port", "0"]) == 3
