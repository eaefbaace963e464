"""What the tests of every room may use: a Context on the embedded engines in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

import headrace.app.tables  # noqa: F401
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import EventClock, FixedEventClock
from headrace.kernel.log import LOG
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time

NOW = parse_time("2026-01-31T12:00:00Z")


class MakeContext(Protocol):
    def __call__(self, specs: Specs, *, system: str = "shop", clock: EventClock | None = None) -> Context: ...


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that runs in the process of the tests sets the log up for itself."""
    before = (LOG.json, LOG.threshold, LOG.personal)
    yield
    LOG.json, LOG.threshold, LOG.personal = before


@pytest.fixture
def make_context(tmp_path: Path) -> Iterator[MakeContext]:
    """Open the world of a system in the one data folder of the test; called again, the same world anew, as a restarted
    process would. The clock stands at 2026-01-31 12:00 UTC unless given. Everything is closed at the end."""
    opened: list[Context] = []

    def make(specs: Specs, *, system: str = "shop", clock: EventClock | None = None) -> Context:
        settings = Settings(data=tmp_path / "data", signing_key=str(tmp_path / "signing.key"))
        opened.append(open_context(settings, system, specs, clock=clock or FixedEventClock(NOW)))
        return opened[-1]

    yield make
    for context in opened:
        context.compute.close()
        context.events.close(sync=False)
        context.online.close()
        context.catalog.close()
