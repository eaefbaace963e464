"""The records of the governance room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headrace.kernel.identity import Role
from headrace.ledger.proving import Proof


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key. `key` is shown this once; what is stored does not give it back."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as it is listed; times are RFC 3339."""

    id: str
    name: str
    role: Role
    created_at: str
    revoked_at: str | None


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A backup, or what was restored from one: its folder, and size and root (hex) of the ledger in it."""

    path: str
    files: int
    bytes: int
    leaves: int
    root: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A feature of a prediction. `age_s`: seconds since the newest event behind it, None when it has none."""

    name: str
    value: float | None
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Why:
    """The chain behind a prediction (INTERFACE.md). `prediction` is what was logged, with the deployment's generation;
    `alias` is the role in which `version` answered; `approved_by` is who had approved it when that deployment
    was made; `label` is null until it is mature."""

    prediction: dict[str, Any]
    version: int
    alias: str
    features: list[FeatureValue]
    dataset_version: str | None
    code: str | None
    approved_by: str | None
    label: bool | None
    proof: Proof
