"""A real installation in a folder, as processes open it: the same folder opened again is the same installation."""

from __future__ import annotations

from pathlib import Path

from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs


def open_world(folder: Path, system: str = "fraud", specs: Specs | None = None) -> Context:
    settings = Settings(data=folder / "data", signing_key=str(folder / "keys" / "signing.key"))
    return open_context(settings, system, specs or Specs(), clock=FixedEventClock(1_700_000_000_000_000))
