"""Cold processes, measured alternately: wall seconds, CPU seconds and peak memory of each, medians with their spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

_LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
found = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if found.returncode:
    sys.exit(f"it ended with {found.returncode}: {found.stdout.decode(errors='replace')}")
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One process from its start to its end."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str]) -> Run:
    """Run the command to its end; a failure shows its output and ends the benchmark.

    A process of its own starts it: a child begins with the peak memory of whoever starts it, which here holds the data.
    """
    launched = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *map(str, command)], capture_output=True, text=True, check=False
    )
    if launched.returncode:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{launched.stderr}")
    return Run(*json.loads(launched.stdout))


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
