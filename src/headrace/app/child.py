"""The world of a compute child: the same engines, opened again from the job's arguments (`Context.child_arguments`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import headrace.app.tables  # noqa: F401  (every domain's tables are on METADATA before the catalog opens)
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import EventClock, RealEventClock, VirtualEventClock
from headrace.kernel.settings import load_settings
from headrace.kernel.specs import Specs
from headrace.system import retraining
from headrace.system.load import load_system


def clock_of(data: Path, system: str, kind: str) -> EventClock:
    """The event clock of a system: `real`, or the `virtual` one that its processes share in DATA/clock."""
    return VirtualEventClock(data / "clock" / system) if kind == "virtual" else RealEventClock()


def context(arguments: dict[str, Any]) -> Context:
    """The Context that `Context.child_arguments` describes."""
    data = Path(arguments["data"])
    file = arguments["file"]
    specs = load_system(file).specs() if file else Specs()
    settings = replace(load_settings(), data=data)
    clock = clock_of(data, arguments["system"], arguments["clock"])
    return open_context(settings, arguments["system"], specs, clock=clock, file=file)


def retrain(arguments: dict[str, Any]) -> str:
    """Compute job: run or resume the retraining named `retraining`; returns its final state."""
    return retraining.run_job(context(arguments), arguments["retraining"])
