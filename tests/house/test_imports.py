"""The layers hold, importing is light, and the server never loads a trainer library."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "polars", "sqlalchemy", "fastapi", "onnxruntime", "sklearn", "pandas", "lightgbm", "optuna", "typer", "rich"}
ENGINES = {"sqlalchemy", "asyncio", "http", "ssl", "lmdb", "deltalake", "onnxruntime", "cryptography", "fastapi", "rich"}
TRAINERS = {"sklearn", "pandas", "lightgbm", "optuna", "skl2onnx", "onnxmltools", "scipy"}


def loaded(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after the statement."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_layers_import_downwards_only() -> None:
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout


def test_importing_headrace_loads_nothing_heavy() -> None:
    assert not loaded("import headrace") & HEAVY


def test_the_serving_process_loads_no_trainer_library() -> None:
    assert not loaded("import headrace.app.serving_process") & TRAINERS


def test_the_system_files_load_no_trainer_library() -> None:
    for file in sorted((ROOT / "examples").glob("*/system.py")):
        found = loaded(f"from headrace.system.load import load_system; load_system({str(file)!r})")
        assert not found & TRAINERS, file


def test_the_commands_on_files_load_no_engine(tmp_path: Path) -> None:
    at = [datetime(2026, 1, 2, tzinfo=UTC)]
    labels = pl.DataFrame({"user": [1], "at": at})
    labels.write_parquet(tmp_path / "labels.parquet")
    view = {"name": "again", "path": "labels.parquet", "keys": ["user"], "time": "at"}
    (tmp_path / "join.json").write_text(json.dumps({"labels": {"path": "labels.parquet"}, "views": [view]}))
    events = pl.DataFrame({"tx_id": [1], "at": at, "customer_id": [1], "terminal_id": [1], "amount": [1.5]})
    events.write_parquet(tmp_path / "events.parquet")
    join = ["join", str(tmp_path / "join.json"), str(tmp_path / "joined.parquet")]
    backfill = ["backfill", str(ROOT / "examples/fraud/system.py"), "--spine=transaction", f"--out={tmp_path / 'out.parquet'}"]
    backfill += [f"--stream=transaction={tmp_path / 'events.parquet'}", "--features=customer"]
    for command in (join, backfill):
        found = loaded(f"from headrace.app.cli import run_command; assert run_command({['features', *command, '--json']}) == 0")
        assert "polars" in found
        assert not (engines := found & (ENGINES | TRAINERS)), engines


def distributions(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The installed distributions that `name` needs, itself included."""
    found: set[str] = set()
    pending = [(name, extras)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        current, wanted = pending.pop()
        if (current, wanted) in seen:
            continue
        seen.add((current, wanted))
        found.add(current)
        for text in metadata.requires(current) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                pending.append((requirement.name.lower().replace("_", "-"), frozenset(requirement.extras)))
    return found


def test_the_base_install_is_small() -> None:
    needed = distributions("headrace")
    assert 15 < len(needed) <= 55, sorted(needed)


@pytest.mark.parametrize("extras", [frozenset({"train"}), frozenset({"dev"})])
def test_every_distribution_has_a_pinned_version(extras: frozenset[str]) -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert all("==" in line and "/" not in line for line in lines)
    assert not distributions("headrace", extras) - pinned - {"headrace"}
