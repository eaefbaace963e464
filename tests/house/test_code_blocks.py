"""Every python and bash block of the pages runs: a page is one session in an empty folder, from top to bottom."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN, SHOWN = ("python", "bash"), ("text", "json")
ELSEWHERE = {"make demo\n": "tests/examples/test_make.py", "make test\n": ".ci/run"}
"""Blocks that a test or the CI runs in a clone of their own."""
SECONDS = 200


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return BLOCK.findall(page.read_text())


def session(page: Path) -> str:
    """The page as one bash script that stops at the first error."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for language, text in blocks(page):
        if language == "python":
            lines.append(f"{shlex.quote(sys.executable)} - <<'PYTHON_BLOCK'\n{text}PYTHON_BLOCK")
        elif language == "bash" and text not in ELSEWHERE:
            lines.append(text)
    return "\n".join(lines)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


RUNNABLE = [p for p in PAGES if any(language in RUN for language, _ in blocks(p))]


def _quick(page: Path) -> bool:
    return not page.name.startswith("howto-") and page.name not in ("client.md", "events-in.md", "quickstart.md")


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name, marks=() if _quick(p) else pytest.mark.slow) for p in RUNNABLE])
def test_the_blocks_of_a_page_run_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["HOME"] = str(tmp_path)
    script = session(page).replace("8420", str(free_port()))
    log = tmp_path / "session.log"
    with log.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script], stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=tmp_path, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert code == 0, log.read_text()[-8000:]


def test_every_block_says_what_it_is() -> None:
    unknown = [(p.name, language, text[:40]) for p in PAGES for language, text in blocks(p) if language not in RUN + SHOWN]
    assert not unknown
    for page in PAGES:
        assert page.read_text().count("```") == 2 * len(blocks(page)), f"{page.name} has an odd or indented fence"


def test_the_blocks_that_run_elsewhere_do() -> None:
    for text, place in ELSEWHERE.items():
        assert text.strip() in (ROOT / place).read_text()
        assert any(text == block for _, block in blocks(ROOT / "README.md"))
