"""How long until the first page, and how much memory both processes hold before any model is loaded.

    python benchmarks/start.py [--runs 5]

`headrace run` of the fraud system from its exec to the 200 of `GET /`: on a new data folder, and again on the same one. CPU
is that of both processes until then; memory is their resident set one second later. `import headrace` is a fresh
interpreter's, less that of one which imports nothing.
"""

from __future__ import annotations

import http.client
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import measuring
from figures import Report, parse, parser, spread
from load import cpu_seconds
from measuring import HEADRACE, ROOT

PATIENCE_SECONDS = 60.0
PEERS = ("mlflow",)


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds to the first page, CPU seconds of both processes until then, and their memory in MB."""

    seconds: float
    cpu: float
    work_mb: float
    serve_mb: float


def start(data: Path) -> Start:
    """Start the fraud system on `data`, see its page, stop it."""
    port = measuring.free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [HEADRACE, "run", ROOT / "examples/fraud/system.py", "--data", data, "--port", str(port), "--log-level", "error"],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not page(port):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE_SECONDS:
                sys.exit("`headrace run examples/fraud/system.py` shows no page")
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        serve = int((data / "run/fraud/serve.pid").read_text())
        cpu = cpu_seconds(process.pid) + cpu_seconds(serve)
        time.sleep(1)
        return Start(seconds, cpu, resident_mb(process.pid), resident_mb(serve))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def page(port: int) -> bool:
    """Whether `GET /` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def import_ms(module: str) -> float:
    """Milliseconds of `import module` in a fresh interpreter; its own start is not counted."""
    code = f"import json, time; t = time.perf_counter(); import {module}; print(json.dumps(time.perf_counter() - t))"
    return float(measuring.run([sys.executable, "-c", code]).found) * 1000


def measure(report: Report, runs: int) -> None:
    starts: dict[str, list[Start]] = {"first page, new data folder": [], "first page, same folder": []}
    modules = [module for module in ("headrace", *PEERS) if find_spec(module)]
    imports: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
            for found in starts.values():
                found.append(start(Path(folder) / "data"))
        for module in modules:
            imports[module].append(import_ms(module))
    rows = []
    for name, found in starts.items():
        seconds, cpu = [one.seconds for one in found], [one.cpu for one in found]
        rows.append([name, f"{spread(seconds)} s", f"{spread(cpu)} s"])
    found = [one for several in starts.values() for one in several]
    both = [one.work_mb + one.serve_mb for one in found]
    for name, values in (
        ("memory, work process", [one.work_mb for one in found]),
        ("memory, serve process", [one.serve_mb for one in found]),
        ("memory, both", both),
    ):
        rows.append([name, f"{spread(values, 0)} MB"])
    for module in ("headrace", *PEERS):
        value = f"{spread(imports[module], 0)} ms" if module in imports else "not measured: it is not installed"
        rows.append([f"`import {module}`", value])
    report.say(f"`headrace run` of the fraud system, no model released; runs: {runs}")
    report.table(["", "found", "CPU of both processes"], rows)
    for kind, several in starts.items():
        report.aim(f"{kind}, in", 2, statistics.median(one.seconds for one in several), " s")
    report.aim("memory of both", 300, statistics.median(both), " MB")
    report.aim("`import headrace` in", 120, statistics.median(imports["headrace"]), " ms")


def main() -> None:
    options = parse(parser(__doc__))
    report = Report("start", options)
    measure(report, options.runs)
    report.end("headrace", *PEERS)


if __name__ == "__main__":
    main()
