"""What a benchmark prints: Markdown tables of medians with their spread, its aims, and what it was measured on.

`--figures FILE` also writes it between `<!-- figures: NAME -->` and `<!-- end -->` of that file, in the place of what stood
there; `make bench BENCH="--figures docs/figures.md"` so brings the documentation up to date.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from measuring import Measured, Run

END = "<!-- end -->"


def parser(doc: str | None, *, runs: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=int, default=runs, help=f"of each side [{runs}]")
    made.add_argument("--small", action="store_true", help="few rows, one run: whether the benchmark works, not what it finds")
    made.add_argument("--figures", type=Path, metavar="FILE", help="write what is printed into this file, too")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    options = made.parse_args()
    if options.small:
        options.runs = 1
    return options


class Report:
    """One part of the figures, printed as it grows."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self._lines: list[str] = []
        self._file: Path | None = None if options.small else options.figures
        self._begin = f"<!-- figures: {name} -->"
        self._load = os.getloadavg()[0]
        if self._file is not None and (self._begin not in (text := self._file.read_text()) or END not in text):
            sys.exit(f"{self._file} has no part `{self._begin}` that ends with `{END}`")

    def say(self, text: str) -> None:
        """A paragraph."""
        self._add(text, "")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A row that is shorter than the columns ends with a reason, which widens none."""
        full = [row if len(row) == len(columns) else row[: len(row) - 1] for row in (columns, *rows)]
        widths = [max(len(row[i]) if i < len(row) else 0 for row in full) for i in range(len(columns))]

        def line(cells: Sequence[str]) -> str:
            filled = [*cells, *[""] * (len(columns) - len(cells))]
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(filled, widths, strict=True)) + " |"

        self._add(line(columns), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows), "")

    def aim(self, what: str, limit: float, found: float, unit: str = "", *, least: bool = False) -> None:
        """Whether what was found is at most, or with `least` at least, the limit."""
        met = found >= limit if least else found <= limit
        bound = f"at {'least' if least else 'most'} {_number(limit)}{unit}"
        self.say(f"**{'Met' if met else 'Missed'}**: {what} {bound} ({_number(found)}{unit}).")

    def end(self, *packages: str, peers: str = "") -> None:
        """Say how and on what it was measured; write the file."""
        found = ", ".join(f"{package} {_version(package)}" for package in packages)
        command = f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(_without_figures(sys.argv[1:]))}".strip()
        cores, model = len(os.sched_getaffinity(0)), _processor()
        self.say(
            f"`{command}` on {time.strftime('%Y-%m-%d')}, {cores} cores ({model}), load {self._load:.1f} before and"
            f" {os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {found}{peers and ', ' + peers}."
        )
        if self._file is None:
            return
        before, _, rest = self._file.read_text().partition(self._begin)
        after = rest.partition(END)[2]
        self._file.write_text("\n".join([before + self._begin, *self._lines]).rstrip() + f"\n{END}{after}")

    def _add(self, *lines: str) -> None:
        self._lines += lines
        print("\n".join(lines), flush=True)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (least-most)`; one value alone is just that."""
    median = f"{statistics.median(values):,.{digits}f}"
    return median if len(values) == 1 else f"{median} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def quantiles(taken: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


PROCESSES = ("", "seconds", "CPU s", "peak MB", "runs", "x ours", "CPU x ours")


def process_row(name: str, runs: Measured, base: Sequence[Run]) -> list[str]:
    """A row below PROCESSES; `base` are our runs, of which the last columns tell how many times as long it took."""
    if isinstance(runs, str):
        return [name, f"not measured: {runs}"]
    wall, cpu = ([run.seconds for run in runs], [run.cpu_seconds for run in runs])
    ratios = (
        statistics.median(wall) / statistics.median(run.seconds for run in base),
        statistics.median(cpu) / statistics.median(run.cpu_seconds for run in base),
    )
    peak = f"{max(run.peak_mb for run in runs):,.0f}"
    return [name, spread(wall), spread(cpu), peak, str(len(runs)), *(f"{ratio:.2f}" for ratio in ratios)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _without_figures(arguments: Sequence[str]) -> list[str]:
    """The options without `--figures FILE`."""
    kept = list(arguments)
    if "--figures" in kept:
        at = kept.index("--figures")
        del kept[at : at + 2]
    return kept
