"""The other side of `children.py`: `python -m headrace.engines.compute.child JOBFILE` runs one job and writes its result."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec

from headrace.kernel.errors import HeadraceError

PR_SET_PDEATHSIG = 1
NICENESS = 10


class JobFile(msgspec.Struct):
    """`parent` is the process id that must live as long as the job; `result` is the path to write."""

    entry: str
    arguments: dict[str, Any]
    memory: int
    parent: int
    result: str


class Outcome(msgspec.Struct, omit_defaults=True):
    """The result file: `error` is empty when the job returned."""

    value: Any = None
    error: str = ""


def die_with_parent(parent: int) -> None:
    """SIGKILL this process when the thread that started it ends (prctl(2)); leave at once when it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def call(entry: str, arguments: dict[str, Any]) -> Any:
    """`module:function` called with the arguments."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)(arguments)


def main(path: Path) -> int:
    """Run the job of the file; 0 when it returned, 1 when it raised."""
    job = msgspec.json.decode(path.read_bytes(), type=JobFile)
    die_with_parent(job.parent)
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    if job.memory:
        resource.setrlimit(resource.RLIMIT_AS, (job.memory, job.memory))
    try:
        content = msgspec.json.encode(Outcome(call(job.entry, job.arguments)))
    except Exception as error:  # noqa: BLE001 - a process boundary: the error is recorded and answered
        traceback.print_exc()
        text = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {error}"
        content = msgspec.json.encode(Outcome(error=text))
        status = 1
    else:
        status = 0
    result = Path(job.result)
    beside = result.with_suffix(".beside")
    beside.write_bytes(content)
    beside.rename(result)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
