"""The records of the pipeline room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

PipelineState = Literal["running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step; `attempts` counts how often it began, `result` is its stored JSON when finished. `seconds` is the
    machine-clock length of the attempt that ended."""

    name: str
    state: PipelineState
    attempts: int
    started_at: str
    ended_at: str | None
    seconds: float | None
    result: Any
    error: str


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """One pipeline with its steps in the order in which they first began. `running` is also what a killed process left."""

    name: str
    key: str
    state: PipelineState
    started_at: str
    ended_at: str | None
    error: str
    steps: tuple[StepStatus, ...]
