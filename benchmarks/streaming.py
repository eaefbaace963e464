"""From events to online values: two window views (1 h and 24 h; count, sum, mean) of 100,000 keys, everything on.

    python benchmarks/streaming.py [--events 200000 1000000] [--runs 5] [--seconds 6]
    python benchmarks/streaming.py --peers [--runs 5]

Throughput: a cold process, held on one core, applies what is in the log, or what is appended in batches of 10,000: contract,
identities, state of both views, lake. The rate is that of a CPU second of all its threads. More than 500,000 events run three
times at most, and so does the latency, see `streaming_latency.py`. `--peers`: the same events through Quix Streams and Bytewax,
each with as many as it does in a few seconds. A sample of our values, and all of the peers', are compared with what Polars says
of the same windows.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measuring
import polars as pl
import streaming_latency as latency
from figures import Report, parse, parser, spread
from streaming_events import FRIENDLY, HOSTILE, Case, last_values
from streaming_system import system

from headrace.data.appending import append_raw
from headrace.data.encoding import json_events
from headrace.data.types import StreamSpec
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings
from headrace.system import feature_catalogue

HERE = Path(__file__).resolve().parent
KEYS = 100_000
BATCH = 10_000
SAMPLE = 300
MANY, FEW_RUNS = 500_000, 3
SMALL = 1_000
LATE_S = 2 * 3600
"""So late an event still counts for the peers, twice what it may be."""
AIM_RATE, AIM_P99_MS, AIM_AT = 100_000, 100, 10_000
ONE_CORE = measuring.Limits(seconds=600, core=max(os.sched_getaffinity(0)))
Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer in the environment of its package: a program of benchmarks/peers, and how many events it gets of each case."""

    package: str
    title: str
    program: str
    events: Mapping[str, int]


PEERS = (
    Peer("quixstreams", "Quix Streams, sliding", "quix_windows.py", {"friendly": 20_000, "hostile": 5_000}),
    Peer("bytewax", "Bytewax, by 5 min and 1 h", "bytewax_windows.py", {"friendly": 5_000, "hostile": 5_000}),
)


def lines_of(case: Case, frame: pl.DataFrame) -> list[bytes]:
    return json_events(system.specs().get(StreamSpec, case.stream).fields, frame, textual=False)


def filled(folder: Path, case: Case, lines: Sequence[bytes]) -> Path:
    """A data folder with the events in its log, not applied."""
    ctx = open_context(Settings(data=folder), "streaming", system.specs(), clock=RealEventClock())
    for first in range(0, len(lines), BATCH):
        append_raw(ctx, case.stream, lines[first : first + BATCH])
    ctx.close()
    return folder


def ours(case: Case, data: Path, scratch: Path, events: Path | None) -> tuple[Found, Path]:
    """One run on a copy of the data folder, which is returned too."""
    copy = scratch / "run"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    appended = ["--append", str(events), "--batch", str(BATCH)] if events else []
    return measuring.run([sys.executable, HERE / "streaming_apply.py", copy, case.stream, *appended], ONE_CORE).found, copy


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


RATES = ("", "/s of CPU", "/s", "runs")


def rate(runs: Sequence[Found]) -> float:
    """Events a CPU second, the median."""
    return float(statistics.median(run["events"] / run["cpu_seconds"] for run in runs))


def rate_row(name: str, runs: Sequence[Found]) -> list[str]:
    spreads = (spread([run["events"] / run[seconds] for run in runs], 0) for seconds in ("cpu_seconds", "seconds"))
    return [name, *spreads, str(len(runs))]


def throughput(report: Report, events: int, runs: int) -> None:
    report.say(f"{events:,} events, {KEYS:,} keys, two views; each process on one core:")
    rows, compared = [], 0
    reached: dict[str, float] = {}
    for case in (FRIENDLY, HOSTILE):
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
            scratch = Path(name)
            frame = case.make(events, KEYS)
            lines = lines_of(case, frame)
            file = scratch / "events.ndjson"
            file.write_bytes(b"\n".join(lines))
            full, empty = filled(scratch / "full", case, lines), filled(scratch / "empty", case, [])
            found: dict[str, list[Found]] = {"in the log": [], "appended in batches": []}
            for _ in range(runs):
                for kind, data, given in zip(found, (full, empty), (None, file), strict=True):
                    run, copy = ours(case, data, scratch, given)
                    if run["accepted"] != events:
                        sys.exit(f"{run['accepted']:,} of {events:,} events were accepted")
                    found[kind].append(run)
                    measuring.progress(f"{case.name}, {kind}: {run['events'] / run['cpu_seconds']:,.0f}/s of CPU")
            compared += check_ours(case, frame, copy)
        for kind, measured in found.items():
            rows.append(rate_row(f"{case.name}, {kind}", measured))
        reached[case.name] = rate(found["in the log"])
    report.table(RATES, rows)
    report.say(f"{compared:,} values were compared, all equal.")
    for name, median in reached.items():
        report.aim(f"events a second and core, {events:,} {name} ones in the log,", AIM_RATE, median, least=True)


def latencies(report: Report, seconds: float, runs: int) -> None:
    report.say(f"From before the append until the value is online, a running system, ms; runs: {runs} of {seconds:g} s")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name, latency.running_system(Path(name)) as running:
        for _ in range(runs):
            for kind, way in (("POST of NDJSON", latency.through_http), ("append to the log", latency.through_the_log)):
                for asked in (1_000, AIM_AT):
                    several = found.setdefault((kind, asked), [])
                    probe = (1 + len(several) + len(found) * runs) << 32
                    with way(running) as send:
                        several.append(latency.measure(running, send, rate=asked, seconds=seconds, first_probe=probe))
                    running.settle()
                    measuring.progress(f"{kind}, {asked:,}/s: p99 {several[-1]['p99_ms']:.0f} ms")
    rows = []
    for (kind, asked), several in found.items():
        times = (spread([run[key] for run in several], 1) for key in ("p50_ms", "p99_ms", "max_ms"))
        counts = f"{sum(run['probes'] for run in several):,}", spread([run["cpu"] * 100 for run in several], 0)
        rows.append([kind, f"{asked:,}", spread([run["rate"] for run in several], 0), *times, *counts])
    report.table(["", "/s asked", "/s reached", "p50", "p99", "longest", "probes", "work process, % of a core"], rows)
    worst = statistics.median(run["p99_ms"] for run in found["POST of NDJSON", AIM_AT])
    report.aim(f"p99 of {AIM_AT:,} a second by POST", AIM_P99_MS, worst, " ms")


def check_peer(frame: pl.DataFrame, key: str, found: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[int, int]:
    """How many of a peer's last values are equal to those of the same window, of how many; [start, end) and [start, end]
    agree where no event lies on a border."""
    equal = compared = 0
    for window, values in found.items():
        ends = pl.DataFrame(
            {key: list(values), "at": [row[0] for row in values.values()]}, schema={key: pl.String, "at": pl.Int64}
        )
        ends = ends.with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC")))
        events = frame.select(pl.col(key).cast(pl.String), "at", "amount")
        asked = pl.concat([events, ends.with_columns(pl.lit(None, pl.Float64).alias("amount"))])
        of = pl.col("amount").drop_nulls()
        rolled = asked.sort("at").rolling("at", period=window, group_by=key, closed="both")
        sums = rolled.agg(of.len().alias("count"), of.sum().alias("sum")).join(ends, on=[key, "at"])
        known = {(row[key], row["at"]): row for row in sums.with_columns(pl.col("at").dt.epoch("ms")).to_dicts()}
        for one, (end, count, total, _) in values.items():
            compared += 1
            expected = known[one, int(end)]
            equal += expected["count"] == count and abs(expected["sum"] - total) < 1e-6
    return equal, compared


def beside(report: Report, peer: Peer, case: Case, number: int, runs: int) -> None:
    """One peer and ours in turn."""
    key, late_s = case.hour[0], 0 if case is FRIENDLY else LATE_S
    python = measuring.peer(peer.package)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        scratch = Path(name)
        frame = case.make(number, KEYS)
        lines = lines_of(case, frame)
        events, out = scratch / "events.ndjson", scratch / "out.json"
        events.write_bytes(b"\n".join(lines))
        full = filled(scratch / "full", case, lines)
        mine: list[Found] = []
        theirs: list[Found] = []
        reason = python if isinstance(python, str) else ""
        for _ in range(runs):
            mine.append(ours(case, full, scratch, None)[0])
            if reason:
                continue
            run = measuring.attempt([python, HERE / "peers" / peer.program, events, out, key, late_s], ONE_CORE)
            measuring.progress(f"{peer.title}: {run if isinstance(run, str) else f'{run.seconds:.1f} s'}")
            if isinstance(run, str):
                reason = run
            else:
                theirs.append(run.found)
        report.say(f"{number:,} events, {case.name}, {KEYS:,} keys, two windows; each process on one core:")
        rows = [[*rate_row("headrace", mine), "1.0"]]
        if reason:
            rows.append([peer.title, f"not measured: {reason}"])
        else:
            rows.append([*rate_row(peer.title, theirs), f"{rate(mine) / rate(theirs):.1f}"])
        report.table([*RATES, "x ours, CPU"], rows)
        if not reason:
            equal, compared = check_peer(frame, key, json.loads(out.read_text()))
            report.say(f"{equal:,} of its {compared:,} last values are those of the same window.")


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--events", type=int, nargs="+", default=[200_000, 1_000_000])
    made.add_argument("--seconds", type=float, default=6.0)
    made.add_argument("--peers", action="store_true", help="the comparison alone")
    options = parse(made)
    if options.small:
        options.events, options.seconds = [10_000], 1.0
    report = Report("streaming peers" if options.peers else "streaming", options)
    versions = []
    if options.peers:
        for peer in PEERS:
            for case in (FRIENDLY, HOSTILE):
                beside(report, peer, case, min(peer.events[case.name], SMALL if options.small else KEYS), options.runs)
            if not isinstance(python := measuring.peer(peer.package), str):
                versions.append(measuring.versions_of(python, peer.package))
    else:
        for events in options.events:
            throughput(report, events, min(options.runs, FEW_RUNS) if events > MANY else options.runs)
        latencies(report, options.seconds, min(options.runs, FEW_RUNS))
    report.end("headrace", "polars", "numpy", "lmdb", "deltalake", "msgspec", peers=", ".join(versions))


if __name__ == "__main__":
    main()
