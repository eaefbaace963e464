"""From events to online values: two window views (1 h and 24 h; count, sum, mean) of 100,000 keys, everything on.

    python benchmarks/streaming.py [--events 200000] [--runs 5] [--seconds 10]
    python benchmarks/streaming.py --peers [--runs 5]

Throughput: a cold process, held on one core, applies what is in the log, or what is appended in batches of 10,000: contract,
identities, state of both views, lake. The rate is that of a CPU second of all its threads. Latency: see
`streaming_latency.py`. `--peers`: the same events through Quix Streams and Bytewax, each with as many as it does in a few
seconds. A sample of our values, and all of the peers', are compared with what Polars says of the same windows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measuring
import polars as pl
import streaming_latency as latency
from streaming_events import FRIENDLY, HOSTILE, START, Case, last_values
from streaming_system import system

from headrace.data.appending import append_raw
from headrace.data.encoding import json_events
from headrace.data.types import StreamSpec
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings
from headrace.system import feature_catalogue

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv-peers"
KEYS = 100_000
BATCH = 10_000
SAMPLE = 300
CORE = max(os.sched_getaffinity(0))
QUIX, BYTEWAX = ("quixstreams", "Quix Streams, sliding", 20_000), ("bytewax", "Bytewax, by 5 min and 1 h", 5_000)
Found = dict[str, Any]


def lines_of(case: Case, frame: pl.DataFrame) -> list[bytes]:
    return json_events(system.specs().get(StreamSpec, case.stream).fields, frame, textual=False)


def filled(folder: Path, case: Case, lines: Sequence[bytes]) -> Path:
    """A data folder with the events in its log, not applied."""
    ctx = open_context(Settings(data=folder), "streaming", system.specs(), clock=RealEventClock())
    for first in range(0, len(lines), BATCH):
        append_raw(ctx, case.stream, lines[first : first + BATCH])
    ctx.close()
    return folder


def cold(command: Sequence[str | Path]) -> Found | str:
    """What the process prints, held on one core; why not, when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys; os.sched_setaffinity(0, [{CORE}]); os.execv(sys.argv[1], sys.argv[1:])",
         *map(str, command)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"not measured: {(done.stderr.strip() or done.stdout.strip() or 'it failed').splitlines()[-1]}"
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(case: Case, data: Path, scratch: Path, events: Path | None) -> tuple[Found, Path]:
    """One run on a copy of the data folder, which is returned too."""
    copy = scratch / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    appended = ["--append", str(events), "--batch", str(BATCH)] if events else []
    found = cold([sys.executable, HERE / "streaming_apply.py", copy, case.stream, *appended])
    if isinstance(found, str):
        sys.exit(found)
    return found, copy


def check_ours(case: Case, frame: pl.DataFrame, data: Path) -> int:
    """Values of a sample of keys, asked for as of each key's newest event; a different one ends the benchmark."""
    ctx = open_context(Settings(data=data), "streaming", system.specs(), clock=RealEventClock())
    compared = 0
    for view, by, window in case.views:
        late = pl.lit(frame["at"].max()) - pl.duration(hours=23)  # (older asking times the state need not reach)
        expected = last_values(frame, by, window).filter(pl.col("at") > late).sort("count", *by)
        for row in [*expected.head(SAMPLE // 2).to_dicts(), *expected.tail(SAMPLE // 2).to_dicts()]:
            given = [f"{name}={row[name]}" for name in by]
            values = feature_catalogue.read(ctx, view, given, row["at"].isoformat()).values
            same(f"{view} of {given}", row, {name: values[f"{view}_{name}_{window}"] for name in ("count", "sum", "mean")})
            compared += 1
    ctx.close()
    return compared


def same(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name in ("count", "sum", "mean"):
        if abs(found[name] - expected[name]) > 1e-9 * max(1.0, abs(expected[name])):
            sys.exit(f"{what}: {name} is {found[name]}, not {expected[name]}")


def rate_line(name: str, runs: Sequence[Found], base: float | None = None) -> float:
    rates = [run["events"] / run["cpu_seconds"] for run in runs]
    median = sorted(rates)[len(rates) // 2]
    ratio = f"  {base / median:6.1f} x slower than ours" if base else ""
    walls = [run["events"] / run["seconds"] for run in runs]
    print(
        f"  {name:<34} {measuring.spread(rates, 0):>28} /s and core  {measuring.spread(walls, 0):>28} /s wall{ratio}",
        flush=True,
    )
    return median


def throughput(events: int, runs: int) -> None:
    print(f"{events:,} events, {KEYS:,} keys, two views; each process on one core")
    for case in (FRIENDLY, HOSTILE):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
            scratch = Path(name)
            frame = case.make(events, KEYS)
            lines = lines_of(case, frame)
            file = scratch / "events.ndjson"
            file.write_bytes(b"\n".join(lines))
            full, empty = filled(scratch / "full", case, lines), filled(scratch / "empty", case, [])
            found: dict[str, list[Found]] = {"in the log": [], "appended": []}
            for _ in range(runs):
                for kind, data, given in (("in the log", full, None), ("appended", empty, file)):
                    run, copy = ours(case, data, scratch, given)
                    if run["accepted"] != events:
                        sys.exit(f"{run['accepted']:,} of {events:,} events were accepted")
                    found[kind].append(run)
            compared = check_ours(case, frame, copy)
        for kind, measured in found.items():
            rate_line(f"{case.name}, {kind}", measured)
        print(f"  {'':<34} {compared} values compared, all equal")


def latencies(seconds: float) -> None:
    print("\nfrom before the append until the value is online: a running system, real clock, a reader that polls")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name, latency.running_system(Path(name)) as running:
        number = 0
        for kind, way in (("POST of NDJSON", latency.through_http), ("append to the log", latency.through_the_log)):
            for rate in (1_000, 10_000):
                number += 1
                with way(running) as send:
                    found = latency.measure(running, send, rate=rate, seconds=seconds, first_probe=number << 32)
                running.settle()
                print(
                    f"  {kind:<20} {rate:>6,}/s ({found['rate']:,.0f} reached)  p50 {found['p50_ms']:.1f} ms  p99"
                    f" {found['p99_ms']:.1f} ms  max {found['max_ms']:.1f} ms  of {found['probes']} probes;"
                    f" work process {found['cpu']:.0%} of a core", flush=True,
                )  # fmt: skip


def check_peer(frame: pl.DataFrame, found: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[int, int]:
    """How many of a peer's last values are equal to those of the same window, of how many; [start, end) and [start, end]
    agree where no event lies on a border."""
    equal = compared = 0
    for window, values in found.items():
        ends = pl.DataFrame(
            {"user": [int(key) for key in values], "at": [row[0] for row in values.values()]},
            schema={"user": pl.Int64, "at": pl.Int64},
        ).with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC")))  # fmt: skip
        asked = pl.concat([frame.select("user", "at", "amount"), ends.with_columns(pl.lit(None, pl.Float64).alias("amount"))])
        rolled = asked.sort("at").rolling("at", period=window, group_by="user", closed="both")
        of = pl.col("amount").drop_nulls()
        known = {
            (user, at): (count, total)
            for user, at, count, total in rolled.agg(of.len().alias("count"), of.sum().alias("sum"))
            .join(ends, on=["user", "at"]).with_columns(pl.col("at").dt.epoch("ms")).select("user", "at", "count", "sum").rows()
        }  # fmt: skip
        for key, (end, count, total, _) in values.items():
            compared += 1
            expected = known[int(key), int(end)]
            equal += expected[0] == count and abs(expected[1] - total) < 1e-6
    return equal, compared


def peers(runs: int) -> None:
    for (package, title, number), program in ((QUIX, "quix_windows.py"), (BYTEWAX, "bytewax_windows.py")):
        python = PEERS / package / "bin/python"
        print(f"\n{number:,} events, {KEYS:,} keys, two windows, from {START:%Y-%m-%d}; each process on one core")
        if not python.exists():
            print(f"  {title:<34} not measured: no environment {python.parent.parent.name}; `make bench-peers` makes it")
            continue
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
            scratch = Path(name)
            frame = FRIENDLY.make(number, KEYS)
            lines = lines_of(FRIENDLY, frame)
            events, out = scratch / "events.ndjson", scratch / "out.json"
            events.write_bytes(b"\n".join(lines))
            full = filled(scratch / "full", FRIENDLY, lines)
            mine: list[Found] = []
            theirs: list[Found] = []
            for _ in range(runs):
                mine.append(ours(FRIENDLY, full, scratch, None)[0])
                run = cold([python, HERE / "peers" / program, events, out])
                if isinstance(run, str):
                    print(f"  {title:<34} {run}")
                    break
                theirs.append(run)
            if len(theirs) == runs:
                base = rate_line("headrace", mine)
                rate_line(title, theirs, base)
                equal, compared = check_peer(frame, json.loads(out.read_text()))
                print(f"  {'':<34} {equal:,} of its {compared:,} last values are those of the same window")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--peers", action="store_true", help="the comparison alone")
    options = parser.parse_args()
    if options.peers:
        peers(options.runs)
    else:
        throughput(options.events, options.runs)
        latencies(options.seconds)
    print(measuring.machine("headrace", "polars", "numpy", "lmdb", "deltalake", "msgspec"))


if __name__ == "__main__":
    main()
