"""The ten seeded mutations: each has its one place in the source, and makes a test fail."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "mutations.py"


def test_every_mutation_has_its_place() -> None:
    spec = importlib.util.spec_from_file_location("mutations", SCRIPT)
    assert spec is not None and spec.loader is not None
    mutations = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = mutations
    spec.loader.exec_module(mutations)
    assert len(mutations.MUTATIONS) == 10
    for mutation in mutations.MUTATIONS:
        assert mutations.source(mutation) != (ROOT / "src" / "headrace" / mutation.file).read_text()
        assert all((ROOT / test.partition("::")[0]).exists() for test in mutation.tests)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_mutation_makes_a_test_fail() -> None:
    answer = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False, cwd=ROOT, timeout=850)
    print(answer.stdout)
    assert answer.returncode == 0, answer.stdout + answer.stderr
