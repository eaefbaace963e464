"""What users can do with the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.registry import lineage, versions
from headrace.registry.types import Approval, Edge, ModelVersion, VersionNumber


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a registration."""

    version: int
    model: ModelVersion


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version with what led to it."""

    model: ModelVersion
    approvals: list[Approval]
    lineage: list[Edge]


@operation(
    "registry.register", permission=Permission.TRAIN, changes=True, http="POST /registry/{model}/versions",
    cli="registry register",
)  # fmt: skip
def register(ctx: Context, *, model: str, run: str | None = None, artifact: Path | None = None) -> Registered:
    """Register a version of a model: what a run trained, compiled and proved, or an ONNX file."""
    made = versions.register(ctx, model, run=run, artifact=artifact)
    return Registered(made.number, made)


@operation("registry.list", permission=Permission.READ, http="GET /registry/{model}/versions", cli="registry list")
def list_versions(ctx: Context, *, model: str) -> list[ModelVersion]:
    """List the versions of a model, the newest first."""
    return versions.versions(ctx, model)


@operation("registry.show", permission=Permission.READ, http="GET /registry/{model}/versions/{version}", cli="registry show")
def show_version(ctx: Context, *, model: str, version: VersionNumber) -> VersionFacts:
    """Show a version: its proof, its approvals, and everything it was made from."""
    found = versions.version(ctx, model, version)
    edges = lineage.ancestors(ctx, f"model:{model}@{version}")
    return VersionFacts(found, versions.approvals(ctx, model, version), edges)


@operation(
    "registry.approve", permission=Permission.RELEASE, changes=True,
    http="POST /registry/{model}/versions/{version}/approve", cli="registry approve",
)  # fmt: skip
def approve(ctx: Context, *, model: str, version: VersionNumber, reason: str) -> ModelVersion:
    """Approve a version for release, with a reason that is kept."""
    return versions.approve(ctx, model, version, reason)
