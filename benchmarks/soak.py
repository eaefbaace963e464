"""A soak: payments stream in, one in ten up to a day late, while predictions are asked; then every logged value is recomputed.

    python benchmarks/soak.py [--events 1000000] [--predictions 100000] [--days 30] [--connections 8] [--json]

The system is that of the fraud example without its watch, and its service appends each answered request to the stream. The
virtual clock moves with the arrivals. A request is a payment of its own, or one of the stream, which arrives before or after
it is asked, so that it stands in the log twice; a few are asked twice, too. At the end every payment must be accepted once
and none refused, and `headrace parity`, a process of its own after the system has stopped, must find no differing value.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fraud_world
import numpy as np
import polars as pl
from client import Answer, Clients
from figures import Report, parse, parser
from generator import generate
from payments import lines

HISTORY = 40_000
LATE, LATEST_S = 0.1, 86_400
STEPS_A_DAY = 24
AHEAD = 2
"""Steps that the stream may be ahead of the questions; at night one takes up to six hours."""
ASKED_BACK_S = 8 * 3600
"""So long ago, and the stream so far ahead, is still within the day that the stream answers for."""
FIRST_ID = 1 << 32
SECOND = 1_000_000


def write_system(folder: Path) -> Path:
    """The fraud example's system as it is soaked."""
    declared = fraud_world.SYSTEM.read_text().replace("request=Transaction,", "request=Transaction, appends=Transaction,")
    soaked = [line for line in declared.splitlines() if not line.startswith("system.watch(")]
    if declared.count("appends=") != 1 or len(soaked) != len(declared.splitlines()) - 1:
        sys.exit("the fraud example has not one service and one watch, each on one line")
    (folder / "evaluation.py").write_text((fraud_world.EXAMPLE / "evaluation.py").read_text())
    file = folder / "system.py"
    file.write_text("\n".join(soaked))
    return file


@dataclass(frozen=True, slots=True)
class Step:
    """What arrives up to the clock `now` (microseconds), and what is asked meanwhile."""

    now: int
    payments: list[bytes]
    reports: list[bytes]
    requests: list[bytes]


@dataclass
class Plan:
    """Everything that happens. `own`: the requests that are payments of their own; `late`: the payments that come late."""

    steps: list[Step]
    own: int
    late: int


def plan(events: int, predictions: int, days: int, start: datetime) -> Plan:
    """Payments over `days` from `start` on, in their order of arrival."""
    random = np.random.default_rng(7)
    frame = generate(events, seed=1, days=days, start=start.date()).with_columns(pl.col("tx_id") + FIRST_ID)
    late = random.random(len(frame)) < LATE
    delay = np.where(late, random.uniform(0, LATEST_S * SECOND, len(frame)), random.uniform(0, SECOND, len(frame)))
    at = pl.col("at").to_physical()
    payments = frame.with_columns((at + pl.Series(delay.astype(np.int64))).alias("arrives")).sort("arrives", "tx_id")
    arriving = fraud_world.reports(frame).with_columns(at.alias("arrives"))
    size = max(1, len(payments) // (days * STEPS_A_DAY))
    count = -(-len(payments) // size)
    shares = np.diff(np.linspace(0, predictions, count + 1).astype(int))
    steps: list[Step] = []
    own = 0
    for number, share in enumerate(shares.tolist()):
        rows = payments[number * size : (number + 1) * size]
        now = int(rows["arrives"][-1])
        reports = arriving.filter(pl.col("arrives").is_between(steps[-1].now if steps else 0, now, closed="right"))
        near = payments[number * size : (number + 2) * size]
        asked = _requests(random, near, now, share, FIRST_ID * 2 + own)
        own += int((asked["tx_id"] >= FIRST_ID * 2).sum())
        sent = rows.sample(fraction=1.0, shuffle=True, seed=number)
        steps.append(Step(now, lines(sent.select(fraud_world.EVENT)), lines(reports.select("tx_id", "at")), lines(asked)))
    return Plan(steps, own, int(late.sum()))


def _requests(random: np.random.Generator, near: pl.DataFrame, now: int, number: int, first_id: int) -> pl.DataFrame:
    """Half of them, where there are so many, payments that arrive about now, the others payments of their own; all of the
    last ASKED_BACK_S."""
    at = pl.col("at").to_physical()
    recent = near.filter((at > now - ASKED_BACK_S * SECOND) & (at <= now)).select(fraud_world.EVENT)
    known = recent.sample(min(number // 2, len(recent)), seed=int(random.integers(1 << 30)))
    others = number - len(known)
    own = near[random.integers(0, len(near), others)].select(fraud_world.EVENT)
    own = own.with_columns(
        pl.Series("tx_id", np.arange(first_id, first_id + others)),
        pl.Series("at", now - random.integers(0, ASKED_BACK_S * SECOND, others)).cast(pl.Datetime("us", "UTC")),
    )
    return pl.concat([known, own]).sample(fraction=1.0, shuffle=True, seed=int(random.integers(1 << 30)))


def flow(door: fraud_world.Door, planned: Plan, clients: Clients) -> list[Answer]:
    """Send the stream from one thread and ask from this one, neither far ahead of the other."""
    ahead, behind = threading.Semaphore(AHEAD), threading.Semaphore(0)
    failures: list[BaseException] = []

    def send() -> None:
        try:
            for step in planned.steps:
                ahead.acquire()
                door.post("/clock", {"now": np.datetime_as_string(np.datetime64(step.now, "us")) + "Z"})
                door.send("transaction", step.payments)
                door.send("fraud_report", step.reports)
                behind.release()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failures.append(error)
            behind.release()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    answers: list[Answer] = []
    for step in planned.steps:
        behind.acquire()
        if failures:
            raise failures[0]
        answers += clients.ask(step.requests)
        ahead.release()
    sender.join()
    return answers


def soak(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The figures of the soak."""
    history = fraud_world.history(HISTORY)
    planned = plan(options.events, options.predictions, options.days, fraud_world.end_of(history))
    with fraud_world.Door(write_system(scratch), scratch / "data") as door:
        fraud_world.ingest(door, history, scratch)
        (version,) = fraud_world.train(door, history)
        fraud_world.release(door, version)
        clients = Clients(*door.address, "/services/scoring/predict", connections=options.connections)
        began = time.monotonic()
        answers = flow(door, planned, clients)
        asked_s = time.monotonic() - began
        while any(stream["lag"] for stream in door.get("/streams")):
            time.sleep(0.1)
        applied_s = time.monotonic() - began
        clients.close()
        stream = next(stream for stream in door.get("/streams") if stream["stream"] == "transaction")
    began = time.monotonic()
    found = door.command("parity", "--service", "scoring", bad=True)
    seconds = sorted(answer.seconds for answer in answers)
    failed = [answer for answer in answers if answer.status != 200]
    return {
        "events": options.events, "late": planned.late, "questions": len(answers), "failed": len(failed),
        "predictions": len({answer.body["prediction_id"] for answer in answers if answer.status == 200}),
        "first_failures": [answer.body for answer in failed[:3]],
        "accepted": stream["accepted"], "expected": HISTORY + options.events + planned.own,
        "redelivered": stream["redelivered"], "quarantined": stream["quarantined"],
        "values_compared": found["values_compared"], "values_different": found["values_different"],
        "values_stale": found["values_stale"], "max_staleness_s": found["max_staleness_s"],
        "differences": found["differences"][:3],
        "flow_s": round(asked_s, 1), "until_applied_s": round(applied_s, 1), "parity_s": round(time.monotonic() - began, 1),
        "p50_ms": round(statistics.median(seconds) * 1e3, 2), "p99_ms": round(seconds[int(0.99 * len(seconds))] * 1e3, 2),
    }  # fmt: skip


def main() -> None:
    made = parser(__doc__, runs=1)
    made.add_argument("--events", type=int, default=1_000_000)
    made.add_argument("--predictions", type=int, default=100_000)
    made.add_argument("--days", type=int, default=30)
    made.add_argument("--connections", type=int, default=8)
    made.add_argument("--json", action="store_true")
    options = parse(made)
    if options.small:
        options.events, options.predictions, options.days = 20_000, 2_000, 5
    report = Report("soak", options)
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        figures = soak(options, Path(folder))
    if options.json:
        print(json.dumps(figures))
    else:
        report.table(["", "found"], [[name, f"{value}"] for name, value in figures.items()])
        report.end("headrace", "polars", "numpy")
    good = figures["accepted"] == figures["expected"] and not (figures["failed"] or figures["quarantined"])
    sys.exit(0 if good and figures["values_different"] == 0 else 1)


if __name__ == "__main__":
    main()
