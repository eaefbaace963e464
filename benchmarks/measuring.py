"""Cold processes, measured alternately: wall seconds, CPU seconds and peak memory of each, medians with their spread."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True)
class Run:
    """One process from its start to its end."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str]) -> Run:
    """Run the command to its end; a failure shows its output and ends the benchmark."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"`{' '.join(command)}` ended with {process.returncode}:\n{output.decode(errors='replace')}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def alternate(sides: Mapping[str, Sequence[str]], *, runs: int = 5) -> dict[str, list[Run]]:
    """Run every side `runs` times in turn, so that noise falls on all alike."""
    measured: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, command in sides.items():
            measured[name].append(run(command))
    return measured


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (least-most)`."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def show(title: str, measured: Mapping[str, Sequence[Run]], ours: str) -> None:
    """Print one line a side: median and spread of the seconds, memory, and the ratio to ours."""
    print(f"\n{title}")
    base = statistics.median(r.seconds for r in measured[ours])
    for name, runs in measured.items():
        seconds = [r.seconds for r in runs]
        median = statistics.median(seconds)
        print(
            f"  {name:<28} {median:8.2f} s  ({min(seconds):.2f}-{max(seconds):.2f}, n={len(seconds)})"
            f"  cpu {statistics.median(r.cpu_seconds for r in runs):6.2f} s"
            f"  peak {max(r.peak_mb for r in runs):6.0f} MB  {median / base:5.2f} x ours"
        )


def machine(*packages: str) -> str:
    """Cores, Python and the versions of the packages: a line under each benchmark."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return f"  on {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {', '.join(found)}"
