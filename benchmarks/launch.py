"""Start one command and say what it took: python launch.py '{"seconds": S, "memory_mb": M, "core": C}' COMMAND...

A process of its own, since a child begins with the peak memory of whoever starts it, which for a benchmark holds the data.
`seconds` and `memory_mb` (of all processes together) end the command, null is no limit; `core` holds it there. SIGTERM ends the
command too. It prints JSON: seconds and CPU seconds, peak MB of resident memory of all its processes, the exit code, why it was
stopped, what it wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EVERY_SECONDS = 0.05


def resident_mb(root: int) -> float:
    """Of the process and all below it; what several share counts for each."""
    pages, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):  # it has ended
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return pages * resource.getpagesize() / 1e6


def stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def over(asked: dict[str, Any], seconds: float, memory_mb: float) -> str | None:
    """The limit that is passed."""
    if asked.get("seconds") and seconds > asked["seconds"]:
        return f"over {asked['seconds']:g} s"
    if asked.get("memory_mb") and memory_mb > asked["memory_mb"]:
        return f"over {asked['memory_mb'] / 1e3:g} GB of memory after {seconds:.0f} s"
    return None


def main(asked: dict[str, Any], command: list[str]) -> dict[str, Any]:
    if asked.get("core") is not None:
        os.sched_setaffinity(0, [asked["core"]])
    started, peak, stopped = time.perf_counter(), 0.0, None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: stop(process))
    if asked.get("memory_mb"):  # should it outgrow the machine between two looks, it is what ends, not something else
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    try:
        while True:
            try:
                out, err = process.communicate(timeout=EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                now_mb = resident_mb(process.pid)
                peak = max(peak, now_mb)
                if stopped is None and (stopped := over(asked, time.perf_counter() - started, now_mb)):
                    stop(process)
    finally:
        stop(process)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss * 1024 / 1e6
    written, said = (text.decode(errors="replace") for text in (out, err))
    return {
        "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": max(peak, largest),
        "code": process.returncode, "stopped": stopped, "out": written, "err": said,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), sys.argv[2:])))
