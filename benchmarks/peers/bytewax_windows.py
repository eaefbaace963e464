"""A peer of `benchmarks/streaming.py`: windows of 1 h by 5 min and of 24 h by 1 h in Bytewax, which knows no window that ends
at each event. Arguments: EVENTS.ndjson OUT.json KEY LATE_SECONDS.

The source is its testing source, without recovery. It prints JSON: seconds and CPU seconds from the first event to the last.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower, fold_window
from bytewax.testing import TestingSink, TestingSource, run_main

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOWS = {"1h": (timedelta(hours=1), timedelta(minutes=5)), "24h": (timedelta(hours=24), timedelta(hours=1))}
BATCH = 10_000
"""As many as ours appends at once. A batch costs it as much as there are keys, and by default each event is one."""
Folded = tuple[int, float]


def main(events: Path, out: Path, key: str, late: timedelta) -> None:
    def keyed(line: bytes) -> tuple[str, dict[str, Any]]:
        event = json.loads(line)
        return str(event[key]), event

    lines = events.read_bytes().split(b"\n")
    flow = Dataflow("windows")
    stream = op.map("json", op.input("in", flow, TestingSource(lines, batch_size=BATCH)), keyed)
    clock = EventClock(
        ts_getter=lambda event: datetime.fromtimestamp(event["at"] / 1000, UTC), wait_for_system_duration=late
    )  # fmt: skip
    closed: dict[str, list[tuple[str, tuple[int, Folded]]]] = {name: [] for name in WINDOWS}
    for name, (length, step) in WINDOWS.items():
        windower = SlidingWindower(length=length, offset=step, align_to=START)
        windows = fold_window(
            name, stream, clock, windower, builder=lambda: (0, 0.0),
            folder=lambda state, event: (state[0] + 1, state[1] + event["amount"]),
            merger=lambda one, other: (one[0] + other[0], one[1] + other[1]),
        )  # fmt: skip
        op.output(f"out {name}", windows.down, TestingSink(closed[name]))
    wall, cpu = time.perf_counter(), time.process_time()
    run_main(flow)
    seconds, used = time.perf_counter() - wall, time.process_time() - cpu
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in WINDOWS}
    for name, (length, step) in WINDOWS.items():
        for one, (number, (count, total)) in closed[name]:
            end = round((START + number * step + length).timestamp() * 1000)
            if end >= found[name].get(one, [0])[0]:
                found[name][one] = [end, count, total, total / count]
    out.write_text(json.dumps(found))
    print(json.dumps({"events": len(lines), "seconds": seconds, "cpu_seconds": used}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], timedelta(seconds=int(sys.argv[4])))
