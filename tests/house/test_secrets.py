"""What is committed names no machine, no registry and no secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "package-lock.json", "yarn.lock"}
FORBIDDEN = {
    "a package registry": re.compile(r"(pypi|pythonhosted|registry\.npmjs|conda\.anaconda)\.\w+|index-url"),
    "a path of a machine": re.compile(r"(?<![\w.~])/(work|home|root|Users|mnt)/\w"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a key in clear": re.compile(r"\b(AKIA[0-9A-Z]{16}|ghp_[0-9A-Za-z]{30,}|sk-[0-9A-Za-z]{32,})"),
}


def committed() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def findings(text: str) -> list[str]:
    return [f"{what}: {match[0]}" for what, pattern in FORBIDDEN.items() if (match := pattern.search(text))]


def test_no_lock_file_is_committed() -> None:
    assert not [p for p in committed() if p.name in LOCK_FILES]


def test_no_committed_file_names_a_machine_or_a_registry() -> None:
    found = {}
    for path in committed():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path != Path(__file__) and (lines := findings(text)):
            found[str(path.relative_to(ROOT))] = lines
    assert not found


@pytest.mark.parametrize(
    "text", ["cd /home/ada/project", "--index-url x", "-----BEGIN EC PRIVATE KEY-----", "key=AKIA" + "A" * 16]
)
def test_the_search_finds_what_it_must(text: str) -> None:
    assert findings(text)


@pytest.mark.parametrize("text", ["GET /services/scoring/predict", "DATA/audit/checkpoint", "./home/file"])
def test_the_search_leaves_the_rest(text: str) -> None:
    assert not findings(text)
