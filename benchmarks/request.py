"""Reading and evaluating one request's features in process: twelve windows of two keys, alone and with a function and a field.

    python benchmarks/request.py [--runs 5] [--payments 120000]

The state is that of a real `headrace run` with the history applied. The last line reads 16 requests together, as the serve
process does with what arrives in one tick of its loop. The runs are of one process, which is warm, as a service is. No peer
evaluates windows at the time of asking.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from pathlib import Path

import fraud_world
import msgspec
import polars as pl
from figures import Report, parse, parser, quantiles, spread

from headrace.app.world import installed
from headrace.features.online import FeatureReader
from headrace.features.types import Ask, FeatureSet
from headrace.kernel.settings import Settings
from headrace.serving.requests import RequestReader
from headrace.serving.types import ServiceSpec

ASKED, TOGETHER = 5000, 16


def measure(report: Report, data: Path, payments: pl.DataFrame, runs: int) -> None:
    ctx = installed(Settings(data=data), None)
    service = ctx.specs.get(ServiceSpec, "scoring")
    features = service.model.features
    requests = RequestReader(ctx.system, service, ctx.specs, ctx.clock)
    read = [requests.read(msgspec.json.encode(row), None) for row in fraud_world.asked(payments, ASKED)]
    asks = [Ask(asked.row, asked.at, asked.own_id) for asked in read]
    gc.freeze()
    report.say(f"{payments.height:,} payments in the windows; microseconds; runs: {runs}")
    windows, every = FeatureSet(features.views), f"all {len(features.columns)} columns"
    rows, alone = [], 0.0
    for name, size, chosen in (
        ("twelve windows, one request", 1, windows),
        (f"{every}, one request", 1, features),
        (f"{every}, one of {TOGETHER} together", TOGETHER, features),
    ):
        reader = FeatureReader(ctx.online, ctx.namespace, chosen, ctx.specs, asking=service.request_stream)
        p50: list[float] = []
        p99: list[float] = []
        cpu: list[float] = []
        for _ in range(runs):
            spent, taken = time.process_time(), []
            for start in range(0, ASKED - size + 1, size):
                began = time.perf_counter()
                reader.read_many(asks[start : start + size])
                taken.append((time.perf_counter() - began) / size * 1e6)
            cpu.append((time.process_time() - spent) / (len(taken) * size) * 1e6)
            for kept, quantile in zip((p50, p99), quantiles(taken), strict=True):
                kept.append(quantile)
        rows.append([name, *(spread(values, 1) for values in (p50, p99, cpu))])
        alone = alone or statistics.median(p50)
    report.table(["", "p50", "p99", "CPU"], rows)
    report.aim("p50 of the twelve windows of one request", 40, alone, " us")
    ctx.close()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--payments", type=int, default=120_000)
    options = parse(made)
    report = Report("request", options)
    payments = fraud_world.history(fraud_world.SMALL if options.small else options.payments)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        folder = Path(name)
        with fraud_world.Door(fraud_world.SYSTEM, folder / "data") as door:
            fraud_world.ingest(door, payments, folder)
        measure(report, folder / "data", payments, options.runs)
    report.end("headrace", "numpy", "lmdb", "msgspec")


if __name__ == "__main__":
    main()
