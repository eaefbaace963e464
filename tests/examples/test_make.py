"""The two commands of the README, on a fresh clone: `make demo` here, `make test` by `.ci/run`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=seconds
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is committed, and what is about to be, without anything that is ignored."""
    files = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT, 60).stdout.split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
            (tmp_path / name).chmod((ROOT / name).stat().st_mode)
    return tmp_path


def test_make_lists_its_targets_with_a_line_of_help(clone: Path) -> None:
    listed = run(["make"], clone, 60).stdout
    for target in ("demo", "run", "test", "check", "bench", "docs"):
        assert f"  make {target} " in listed


def test_an_old_python_is_named_with_what_is_needed(clone: Path) -> None:
    old = clone / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    answer = run(["make", "demo", f"PYTHON={old}"], clone, 60)
    assert answer.returncode != 0
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "3.9.1" in answer.stderr
    assert "hint: " in answer.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_installs_and_tells_the_story(clone: Path) -> None:
    answer = run(["make", "demo", "PAYMENTS=150000", "REPORT=report.json"], clone, 800)
    assert answer.returncode == 0, answer.stderr[-5000:]
    assert "figures" in answer.stdout
    report = json.loads((clone / "report.json").read_text())
    assert report["payments"] == 150_000
    assert report["predictions"]["failed"] == 0
    assert (clone / ".venv" / "demo").is_file()
