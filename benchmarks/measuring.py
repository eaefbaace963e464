"""Commands as cold processes: wall seconds, CPU seconds and peak memory of each, several sides in turn; and servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEADRACE = str(Path(sys.executable).with_name("headrace"))
PATIENCE_SECONDS = 120.0
ENVIRONMENT = {**os.environ, "FEAST_USAGE": "False"}
Command = Sequence[object]


@dataclass(frozen=True, slots=True)
class Run:
    """One command from its start to its end. Memory is that of all its processes; `printed` its standard output."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    printed: str

    @property
    def found(self) -> Any:
        """The JSON of the last line it printed."""
        return json.loads(self.printed.splitlines()[-1])


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a command, None for no limit: seconds, MB of all its processes; and the core and the folder it is held in."""

    seconds: float | None = None
    memory_mb: float | None = None
    core: int | None = None
    folder: Path | None = None


NONE = Limits()
Measured = list[Run] | str
"""The runs of a side, or why it is not measured."""


def attempt(command: Command, limits: Limits = NONE, watch: Callable[[], bool] | None = None) -> Run | str:
    """Run the command to its end; why there is no result, when it passes a limit or fails.

    `watch` is called four times a second; the command is killed once it answers true, and its result says what it took till
    then.
    """
    asked = json.dumps({"seconds": limits.seconds, "memory_mb": limits.memory_mb, "core": limits.core})
    launcher = subprocess.Popen(
        [sys.executable, ROOT / "benchmarks/launch.py", asked, *map(str, command)],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd=limits.folder,
    )
    killed = False
    try:
        while True:
            try:
                found = json.loads(launcher.communicate(timeout=0.25 if watch else None)[0])
                break
            except subprocess.TimeoutExpired:
                if watch is not None and not killed and watch():
                    killed = True
                    launcher.terminate()
    finally:
        launcher.terminate()
    if found["stopped"]:
        return str(found["stopped"])
    if found["code"] and not killed:
        said = found["err"].strip() or found["out"].strip() or "without a word"
        return f"it ended with {found['code']}: {said.splitlines()[-1]}"
    return Run(found["seconds"], found["cpu_seconds"], found["peak_mb"], found["out"])


def run(command: Command, limits: Limits = NONE, watch: Callable[[], bool] | None = None) -> Run:
    """As `attempt`; a command without a result ends the benchmark."""
    found = attempt(command, limits, watch)
    if isinstance(found, str):
        sys.exit(f"`{' '.join(map(str, command))}`: {found}")
    return found


def alternate(
    sides: Mapping[str, Command | str], ours: str, *, runs: int, limits: Limits = NONE, fewer: Mapping[str, int] | None = None
) -> dict[str, Measured]:
    """Run every side `runs` times in turn, or as often as `fewer` says, so that noise falls on all alike. A side is a command,
    or a text that says why it is not measured; one that has no result once is not measured, but for ours, which ends the
    benchmark. Only the peers have limits."""
    measured: dict[str, Measured] = {name: command if isinstance(command, str) else [] for name, command in sides.items()}
    for number in range(runs):
        for name, command in sides.items():
            before = measured[name]
            if isinstance(before, str) or number >= (fewer or {}).get(name, runs):
                continue
            found = run(command) if name == ours else attempt(command, limits)
            progress(f"{name}: {found if isinstance(found, str) else f'{found.seconds:.2f} s'}")
            if isinstance(found, str):
                measured[name] = found
            else:
                before.append(found)
    return measured


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def peer(package: str, program: str = "python") -> Path | str:
    """A program of the environment of a peer that is a package of its own, or why there is none."""
    folder = ROOT / ".venv-peers" / package
    return folder / "bin" / program if (folder / "ready").exists() else f"no {package} here (`make bench-peers` installs it)"


def versions_of(python: Path, *packages: str) -> str:
    """The versions of packages in another environment."""
    code = "import sys; from importlib.metadata import version as v; print(', '.join(f'{p} {v(p)}' for p in sys.argv[1:]))"
    return run([python, "-c", code, *packages]).printed.strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(command: Command, port: int, cwd: Path | None = None) -> Iterator[int]:
    """A process, of the given id, that accepts connections at the port; it ends with the block. RuntimeError: it does not
    start."""
    process = subprocess.Popen(
        list(map(str, command)), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"`{' '.join(map(str, command))}` does not start")
            time.sleep(0.1)
        yield process.pid
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
