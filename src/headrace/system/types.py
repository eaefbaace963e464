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


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """A declared view or function. `by` and `stream` are those of a view, `over` its windows, `reads` the columns that it
    reads; `definition` is the hash of what it means; `position` the last applied offset of each stream in the online state
    (of all partitions together), -1 for none, null for a function; `models` name it among their features. `versions` are the
    live ones (`model@number`) that keep a definition which the file does not have any more. `built`: the online state is
    where its streams are; null for a function."""

    name: str
    kind: str
    stream: str | None
    by: list[str]
    over: list[str]
    reads: list[str]
    columns: list[str]
    definition: str
    position: dict[str, int] | None
    models: list[str]
    versions: list[str]
    built: bool | None
    where: str


@dataclass(frozen=True, slots=True)
class ReadFeatures:
    """Values read from the online store as of `at`, each of its type where that is declared; `age_s` of each view: seconds
    since its newest event of the key."""

    at: str
    values: dict[str, bool | int | float | str | None]
    positions: dict[str, dict[str, int]]
    age_s: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class ExportedFeatures:
    """A written export."""

    path: str
    rows: int
    columns: list[str]
