"""What users can do with the system as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from headrace.engines.context import Context
from headrace.features.backfill_files import backfill_files
from headrace.kernel.errors import UsageError
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.system import feature_catalogue, feature_tables, reloading, retraining, settling
from headrace.system.load import load_system
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


@operation("features.backfill", permission=Permission.READ, cli="features backfill")
def backfill(
    ctx: Context | None, *, file: str, stream: list[str], spine: str, out: Path, order_by: str | None = None,
    features: str | None = None, memory: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compute features from files of events alone: one row per event of the spine, in arrival order.

    FILE is the system file; `--stream NAME=PATH` gives each stream's events; `--features a,b` chooses among the views
    and functions. Writes Parquet with key, time and the features. `--memory 4GB` is what it may take, by default half of
    the machine's: a larger backfill goes through files beside OUT.
    """
    paths = {}
    for given in stream:
        name, equals, path = given.partition("=")
        if not equals or not path:
            raise UsageError(f"`--stream {given}` is not NAME=PATH", hint="write --stream payments=payments.parquet")
        paths[name] = Path(path)
    chosen = None if features is None else [name.strip() for name in features.split(",") if name.strip()]
    specs = load_system(file).specs()
    return backfill_files(specs, paths, spine=spine, order_by=order_by, features=chosen, memory=memory, out=out)


@operation(
    "features.list", permission=Permission.READ, http="GET /features", cli="features list",
    text=("name", "kind", "stream", "by", "over", "built", "versions"),
)  # fmt: skip
def list_features(ctx: Context) -> list[FeatureInfo]:
    """List views and functions, as text without what `features show` and `--json` have: columns, definition hash, applied
    positions, and the models that use them."""
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
