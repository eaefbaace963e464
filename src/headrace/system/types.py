"""The records of the system room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Retraining:
    """A retraining that the policy began. `known_at` and `alarm` say why, `comparison` how the challenger did."""

    id: str
    service: str
    alarm: str
    known_at: str
    state: str
    dataset: str | None
    version: int | None
    comparison: dict[str, Any] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """`settled` when no stream lags and the loop has decided everything up to `now`."""

    settled: bool
    now: str
    decided: str | None
    lagging: list[str]
