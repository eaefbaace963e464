"""One cold process of `benchmarks/streaming.py`: apply what is in a stream's log, or what is appended batch by batch.

    python benchmarks/streaming_apply.py DATA STREAM [--append EVENTS.ndjson --batch 10000]

It prints JSON: seconds and CPU seconds from the first event to the last, written to the lake; CPU is that of all threads.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from streaming_system import system

from headrace.app.applying import Applying
from headrace.data.appending import append_raw
from headrace.data.positions import position
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("stream")
    parser.add_argument("--append", type=Path)
    parser.add_argument("--batch", type=int, default=10_000)
    options = parser.parse_args()
    ctx = open_context(Settings(data=options.data), "streaming", system.specs(), clock=RealEventClock())
    events = options.append.read_bytes().split(b"\n") if options.append else []
    applying = Applying(ctx)
    applying.step(0)  # takes the partitions
    wall, cpu = time.perf_counter(), time.process_time()
    applied = 0
    if options.append:
        for first in range(0, len(events), options.batch):
            append_raw(ctx, options.stream, events[first : first + options.batch])
            applied += applying.step()
    while done := applying.step():
        applied += done
    applying.flush()
    found = {"events": applied, "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    applying.leave()
    accepted = position(ctx, options.stream).accepted
    ctx.close()
    print(json.dumps({**found, "accepted": accepted}))


if __name__ == "__main__":
    main()
