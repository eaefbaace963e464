"""Every benchmark of `make bench` and `make bench-peers` runs to its end with few rows, and has its part in docs/figures.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = (ROOT / "docs" / "figures.md").read_text()
MADE = (ROOT / "Makefile").read_text()
LOOPS = re.findall(r"for benchmark in (.*); do", MADE)
BENCHMARKS = sorted({quoted or plain for loop in LOOPS for quoted, plain in re.findall(r"'([^']*)'|(\S+)", loop)})


def benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script, *given = name.split()
    command = [sys.executable, ROOT / "benchmarks" / f"{script}.py", *given, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_with_few_rows(name: str) -> None:
    ended = benchmark(name, "--small")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^\| \w.* \| .*\d", ended.stdout, re.MULTILINE), ended.stdout
    assert f"`python benchmarks/{name.partition(' ')[0]}.py" in ended.stdout


@pytest.mark.slow
def test_what_is_printed_takes_the_place_of_its_part(tmp_path: Path) -> None:
    file = tmp_path / "figures.md"
    file.write_text("before\n<!-- figures: scaling -->\nold\n<!-- end -->\n<!-- figures: ingest -->\nkept\n<!-- end -->\n")
    code = (
        "import sys, argparse, pathlib, figures\n"
        "options = argparse.Namespace(small=False, figures=pathlib.Path(sys.argv[1]))\n"
        "report = figures.Report('scaling', options)\n"
        "report.table(['', 'seconds'], [['join', '1.0'], ['peer', 'not measured: not here']])\n"
        "report.end('polars')\n"
    )
    subprocess.run([sys.executable, "-c", code, file], cwd=ROOT / "benchmarks", check=True, capture_output=True)
    written = file.read_text()
    assert written.startswith("before\n<!-- figures: scaling -->\n")
    assert "old" not in written
    assert "| join | 1.0" in written.replace("  ", " ")
    assert written.endswith("\n<!-- end -->\n<!-- figures: ingest -->\nkept\n<!-- end -->\n")


@pytest.mark.parametrize("name", [*BENCHMARKS, "streaming peers"])
def test_the_part_of_a_benchmark_is_in_the_documentation(name: str) -> None:
    parts = {"joins --scaling": "scaling", "joins --rows 10000000 --friendly --runs 3": "joins of 10,000,000"}
    assert f"<!-- figures: {parts.get(name, name)} -->\n" in FIGURES
