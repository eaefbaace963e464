"""What every step of the story works with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from door import Door
from plan import Plan
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from headrace.kernel.errors import NotReady

SYSTEM = Path(__file__).with_name("system.py")
SETTLE_SECONDS = 120
SLOW = "the machine is slow or busy: try again, or with fewer --payments"


@dataclass
class Stage:
    """`given` payments; `payments` as they arrive, the shift of the spending included; `reports` of their frauds;
    `figures` of the report; `seconds` of each step."""

    door: Door
    plan: Plan
    given: pl.DataFrame
    payments: pl.DataFrame
    reports: pl.DataFrame
    seed: int
    sample: Path | None
    """The published feature values, when the payments are the published ones."""
    scratch: Path
    progress: Progress
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def clock(self, moment: datetime) -> None:
        """Advance the virtual clock."""
        self.door.post("/clock", {"now": moment.isoformat()})

    def settle(self) -> None:
        """Wait until every event is applied and everything that follows is decided."""
        answer = self.door.get("/settled", timeout=SETTLE_SECONDS)
        if not answer["settled"]:
            raise NotReady(f"not settled after {SETTLE_SECONDS} s: {answer}", hint=SLOW)

    def wait_until_applied(self) -> None:
        """Wait until no stream lags behind its log."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while any(stream["lag"] for stream in self.door.get("/streams")):
            if time.monotonic() > deadline:
                raise NotReady(f"the streams still lag after {SETTLE_SECONDS} s", hint=SLOW)
            time.sleep(0.005)

    def wait_until_served(self, version: int) -> None:
        """Wait until the version is the champion and every serve process has it in memory."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not any(s["champion"] == version and version in s["warm"] for s in self.door.get("/services")):
            if time.monotonic() > deadline:
                raise NotReady(f"version {version} is not served after {SETTLE_SECONDS} s", hint=SLOW)
            time.sleep(0.02)

    def payments_between(self, start: datetime, end: datetime) -> pl.DataFrame:
        return self.payments.filter((pl.col("at") >= start) & (pl.col("at") < end))

    def reports_between(self, start: datetime, end: datetime) -> pl.DataFrame:
        return self.reports.filter((pl.col("at") >= start) & (pl.col("at") < end))

    @contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[Bar]:
        """A line of the progress display for the duration of the block."""
        task = self.progress.add_task(title, total=total, note="")
        began = time.monotonic()
        yield Bar(self.progress, task)
        self.progress.update(task, total=total or 1, completed=total or 1)
        self.seconds[title] = time.monotonic() - began


@dataclass(frozen=True)
class Bar:
    """One line of the progress display."""

    progress: Progress
    task: TaskID

    def advance(self, note: str | None = None) -> None:
        self.progress.advance(self.task)
        if note is not None:
            self.say(note)

    def say(self, note: str) -> None:
        self.progress.update(self.task, note=note)


def display() -> Progress:
    """A progress display on stderr."""
    from rich.console import Console

    return Progress(
        SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), BarColumn(bar_width=24),
        TimeElapsedColumn(), TextColumn("[dim]{task.fields[note]}"), console=Console(stderr=True),
    )  # fmt: skip
