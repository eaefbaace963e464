"""The example notebook: its code runs from top to bottom in one namespace, and it is kept without outputs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "churn" / "explore.ipynb"

AFTERWARDS = """
assert training.height > 500 and set(training["label"]) == {0, 1}
assert june.height == june["customer"].n_unique() > 60
assert refused["id"].to_list() == ["o-wrong"]
"""
"""What the cells must have found."""


def code_cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_has_no_outputs() -> None:
    assert code_cells()
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells())


@pytest.mark.slow
def test_its_code_runs(tmp_path: Path) -> None:
    script = "\n".join(["".join(cell["source"]) for cell in code_cells()] + [AFTERWARDS])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=NOTEBOOK.parent,
        env=environment, start_new_session=True,
    ) as ran:  # fmt: skip
        try:
            output = ran.communicate(timeout=120)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)  # (a cell that fails leaves the system that it started)
    assert ran.returncode == 0, output[-4000:]
