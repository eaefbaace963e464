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
from pathlib import Path

_LAUNCHER = """
import json, resource, signal, subprocess, sys, time
limit = int(sys.argv[1])
def limited():
    if limit:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
started = time.perf_counter()
found = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=limited)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if found.returncode == -signal.SIGXCPU:
    print(json.dumps(f"stopped after {limit} s of CPU time at {used.ru_maxrss / 1024 ** 2:.1f} GB"))
    sys.exit()
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


def run(command: Sequence[str], *, limit: int = 0) -> Run | str:
    """Run the command to its end; a failure shows its output and ends the benchmark. `limit`: it is stopped after so many
    seconds of CPU time, 0 for none, and the answer says so.

    A process of its own starts it: a child begins with the peak memory of whoever starts it, which here holds the data.
    """
    launched = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, str(limit), *map(str, command)], capture_output=True, text=True, check=False
    )
    if launched.returncode:
        sys.exit(f"`{' '.join(map(str, command))}` failed:\n{launched.stderr}")
    found = json.loads(launched.stdout)
    return found if isinstance(found, str) else Run(*found)


Measured = list[Run] | str
"""The runs of a side, or why it is not measured."""


def alternate(
    sides: Mapping[str, Sequence[str]], *, runs: int = 5, once: Sequence[str] = (), limit: int = 0
) -> dict[str, Measured]:
    """Run every side `runs` times in turn, so that noise falls on all alike. A side is a command, or a text that says why
    it is not measured; those named in `once` run once; `limit` as in `run`."""
    measured: dict[str, Measured] = {name: command if isinstance(command, str) else [] for name, command in sides.items()}
    for number in range(runs):
        for name, command in sides.items():
            before = measured[name]
            if isinstance(before, str) or (number and name in once):
                continue
            found = run(command, limit=limit)
            print(f"  {name}: {found if isinstance(found, str) else f'{found.seconds:.2f} s'}", file=sys.stderr, flush=True)
            if isinstance(found, str):
                measured[name] = found
            else:
                before.append(found)
    return measured


def peer(name: str) -> Path | str:
    """The Python of the environment of a peer that is a package of its own, or why there is none."""
    folder = Path(__file__).resolve().parent.parent / ".venv-peers" / name
    return folder / "bin/python" if (folder / "ready").exists() else f"{name} is not installed (`make bench-peers` does it)"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (least-most)`."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def show(title: str, measured: Mapping[str, Measured], ours: str) -> None:
    """Print one line a side: median and spread of the seconds, memory, and the ratio to ours."""
    print(f"\n{title}", flush=True)
    base = measured[ours]
    assert not isinstance(base, str)
    for name, runs in measured.items():
        if isinstance(runs, str):
            print(f"  {name:<28} not measured: {runs}")
            continue
        seconds = [r.seconds for r in runs]
        median = statistics.median(seconds)
        print(
            f"  {name:<28} {median:8.2f} s  ({min(seconds):.2f}-{max(seconds):.2f}, n={len(seconds)})"
            f"  cpu {statistics.median(r.cpu_seconds for r in runs):6.2f} s"
            f"  peak {max(r.peak_mb for r in runs):6.0f} MB  {median / statistics.median(r.seconds for r in base):5.2f} x ours",
            flush=True,
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
