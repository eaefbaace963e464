"""Reading and evaluating one request's features in process: two keys, twelve windows, two functions' columns, one field.

    python benchmarks/request.py [--runs 5] [--payments 120000]

The state is that of a real `headrace run` with the history applied. A second line reads 16 requests together, as the serve
process does with what arrives in one tick of its loop. No peer evaluates windows at the time of asking.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path

import fraud_world
import measuring
import msgspec
import polars as pl

from headrace.app.world import installed
from headrace.features.online import FeatureReader
from headrace.features.types import Ask
from headrace.kernel.settings import Settings
from headrace.serving.requests import RequestReader
from headrace.serving.types import ServiceSpec

ASKED, TOGETHER = 5000, 16


def measure(data: Path, payments: pl.DataFrame, runs: int) -> None:
    ctx = installed(Settings(data=data), None)
    service = ctx.specs.get(ServiceSpec, "scoring")
    features = service.model.features
    requests = RequestReader(ctx.system, service, ctx.specs, ctx.clock)
    reader = FeatureReader(ctx.online, ctx.namespace, features, ctx.specs, asking=service.request_stream)
    read = [requests.read(msgspec.json.encode(row), None) for row in fraud_world.asked(payments, ASKED)]
    asks = [Ask(asked.row, asked.at, asked.own_id) for asked in read]
    gc.freeze()
    print(f"features of one request: {len(features.columns)} columns over {payments.height:,} payments, microseconds")
    for name, size in (("one request alone", 1), (f"one of {TOGETHER} together", TOGETHER)):
        p50, p99, cpu = [], [], []
        for _ in range(runs):
            spent, taken = time.process_time(), []
            for start in range(0, ASKED - size + 1, size):
                began = time.perf_counter()
                reader.read_many(asks[start : start + size])
                taken.append((time.perf_counter() - began) / size * 1e6)
            cpu.append((time.process_time() - spent) / (len(taken) * size) * 1e6)
            p50.append(statistics.median(taken))
            p99.append(statistics.quantiles(taken, n=100)[98])
        spreads = f"p50 {measuring.spread(p50, 1)}  p99 {measuring.spread(p99, 1)}  CPU {measuring.spread(cpu, 1)}"
        print(f"  {name:<22} {spreads}")
    ctx.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=120_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    payments = fraud_world.history(options.payments)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with fraud_world.Door(fraud_world.SYSTEM, folder / "data") as door:
            fraud_world.ingest(door, payments, folder)
        measure(folder / "data", payments, options.runs)
    print(measuring.machine("headrace", "numpy", "lmdb", "msgspec"))


if __name__ == "__main__":
    main()
