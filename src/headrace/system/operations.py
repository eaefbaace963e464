"""What users can do with the system as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.system import feature_catalogue, feature_tables, reloading, retraining, settling
from headrace.system.reloading import Reloaded
from headrace.system.types import ExportedFeatures, FeatureInfo, ReadFeatures, Retraining, Settled


@operation("system.settled", permission=Permission.READ, http="GET /settled", cli="settled", found_bad=lambda s: not s.settled)
def settled(ctx: Context, *, timeout: Annotated[float, Meta(ge=0.0)] = 0.0) -> Settled:
    """Wait at most `timeout` seconds until every event is applied and every decision made (virtual clock)."""
    return settling.settled(ctx, timeout)


@operation("system.reload", permission=Permission.RELEASE, changes=True, http="POST /reload", cli="reload")
def reload_system(ctx: Context, *, check: bool = False) -> Reloaded:
    """Read the system's file again and run what it declares now, without a restart; with `--check` only say what changes."""
    return reloading.reload(ctx, check=check)


@operation("retrainings.list", permission=Permission.READ, http="GET /retrainings", cli="retrainings list")
def list_retrainings(ctx: Context) -> list[Retraining]:
    """List the retrainings that the policy began, the newest first, each with its reason and comparison."""
    return retraining.listed(ctx)


@operation(
    "features.list", permission=Permission.READ, http="GET /features", cli="features list",
    text=("name", "kind", "stream", "by", "over", "built", "versions"),
)  # fmt: skip
def list_features(ctx: Context) -> list[FeatureInfo]:
    """List views and functions: columns, definition hash, applied positions, and the models that use them.

    As text only what fits a line; `features show` and `--json` have all of it.
    """
    return feature_catalogue.listed(ctx)


@operation("features.show", permission=Permission.READ, http="GET /features/{name}", cli="features show")
def show_feature(ctx: Context, *, name: str) -> FeatureInfo:
    """Show one view or function."""
    return feature_catalogue.shown(ctx, name)


@operation("features.read", permission=Permission.READ, http="POST /features/{name}/values", cli="features read")
def read_features(ctx: Context, *, name: str, field: list[str] | None = None, at: str | None = None) -> ReadFeatures:
    """Read the values of a view, a function or all features of a model for one request, as of now, from the online store.

    The request is given as words `FIELD=VALUE`: `headrace features read customer customer_id=42`.
    """
    return feature_catalogue.read(ctx, name, field or [], at)


@operation("features.export", permission=Permission.READ, cli="features export")
def export_features(
    ctx: Context, *, name: str, out: Path, from_: str | None = None, to: str | None = None, known_at: str | None = None
) -> ExportedFeatures:
    """Write a model's training set, or a view's values for every key as known at a time, as Parquet.

    Of a model: asking times from `--from` to `--to`, labels mature at `--known-at`, by default now. Of a view: each key
    that was known at `--known-at`, asked then.
    """
    return feature_tables.export(ctx, name, out, start=from_, end=to, known_at=known_at)
