"""The fraud story, from the first event to the promoted successor of the model, all of it through the public door.

The script only advances the clock, sends events and requests, gives commands, and reads what comes back.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import learning
import polars as pl
import proofs
import published
from client import Clients
from door import Door
from generator import generate
from memory import PeakMemory
from payments import NEEDED, check_frauds, read, reports, shifted
from plan import LONGEST_REPLAY, Plan, plan
from replay import Replay
from report import report as chosen
from report import show
from rich.console import Console
from stage import SYSTEM, Stage, display

from headrace.kernel.errors import InvalidInput

CONNECTIONS = 8
ENOUGH = "150,000 payments over 183 days are enough traffic for every step."


def main(
    *,
    payments: int = 500_000,
    transactions: Path | None = None,
    seed: int = 0,
    data: Path | None = None,
    shift: bool = True,
    system: Path = SYSTEM,
    days: int = LONGEST_REPLAY,
) -> dict[str, Any]:
    """Tell the story and return its figures. Without `shift` the customers' spending stays as it is; at most `days` are
    replayed.

    `data` must be empty or absent, else InvalidInput before anything is written; without it a temporary folder is used, and
    removed at the end.
    """
    if data is not None and data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise InvalidInput(f"`{data}` is not an empty folder", hint="choose a new one with --data, or leave it out")
    began = time.perf_counter()
    console = Console(stderr=True)
    told = _payments(payments, transactions, seed)
    scratch = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        with PeakMemory() as memory, display() as progress, Door(system, data or scratch / "data") as door:
            stage = _stage(door, told, transactions, seed, shift, scratch, progress)
            stage.plan = replace(stage.plan, longest=days)
            figures = stage.figures
            learning.events_in(stage)
            learning.features(stage)
            learning.models(stage)
            with closing(Clients(*door.address, "/services/scoring/predict", connections=CONNECTIONS)) as clients:
                replay = Replay(stage, clients, [])
                replay.run()
            proofs.answers(stage, replay.asked)
            proofs.parity(stage)
            proofs.ledger(stage)
            progress.stop()
            proofs.why(stage, replay.asked, console)
            proofs.status(stage, console)
            if not replay.told:
                console.print(f"[yellow]The story was cut short: the payments end before its last rollout. {ENOUGH}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures["steps"] = stage.seconds
    figures["seconds"] = round(time.perf_counter() - began, 1)
    figures["peak_rss_mb"] = round(memory.peak / 1e6)
    return figures


def _payments(number: int, transactions: Path | None, seed: int) -> tuple[pl.DataFrame, Plan]:
    """The payments, generated or read, and the days of the story. InvalidInput when it cannot be told with them."""
    found = read(transactions) if transactions else generate(number, seed=seed)
    if found.is_empty():
        raise InvalidInput("there are no payments", hint=NEEDED)
    days = plan(found["at"].min(), found["at"].max())  # type: ignore[arg-type]
    check_frauds(found, days)
    return found, days


def _stage(
    door: Door,
    payments: tuple[pl.DataFrame, Plan],
    transactions: Path | None,
    seed: int,
    shift: bool,
    scratch: Path,
    progress: Any,
) -> Stage:
    found, days = payments
    sample = transactions.with_name(learning.PUBLISHED_SAMPLE) if transactions else None
    if sample is not None and (len(found) != published.PAYMENTS or not sample.is_file()):
        sample = None
    arriving = shifted(found, days.shift, seed) if shift else found
    stage = Stage(door, days, found, arriving, reports(found), seed, sample, scratch, progress)
    stage.figures["payments"] = len(found)
    return stage


def demo(*, report: Path | None = None, as_json: bool = False, **given: Any) -> None:
    """`headrace demo`: tell the story, then print the figures, or their JSON."""
    if report is not None:
        _check_writable(report)
    figures = main(**given)
    document = chosen(figures)
    if report is not None:
        report.write_text(json.dumps(document, indent=2) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        show(figures, Console())


def _check_writable(report: Path) -> None:
    """OSError now rather than after minutes; the file stays as it is."""
    existed = report.exists()
    with report.open("ab"):
        pass
    if not existed:
        report.unlink()
