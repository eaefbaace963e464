"""The declared features: what there is, what is materialised, its values for one request, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from headrace.data.files import write_table
from headrace.data.history import history
from headrace.data.types import FieldType, StreamSpec
from headrace.engines.context import Context
from headrace.features.backfill import backfill, streams_of
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader, asking_stream
from headrace.features.training_set import training_set
from headrace.features.types import FeatureSet, RequestFeatures, StoredView, WindowView, stored_views
from headrace.kernel.errors import InvalidInput, NotFound, UsageError
from headrace.kernel.specs import Specs
from headrace.kernel.times import SECOND, format_time, parse_time
from headrace.system.types import ExportedFeatures, FeatureInfo, ReadFeatures
from headrace.training.types import ModelSpec


def listed(ctx: Context) -> list[FeatureInfo]:
    """Every declared view and function, in the order of their declaration: views first."""
    views = stored_views(ctx.specs)
    online = OnlineViews(ctx, views)
    found = [_info(ctx.specs, view, online.positions(view)) for view in views]
    return found + [_info(ctx.specs, function, None) for function in ctx.specs.all(RequestFeatures)]


def shown(ctx: Context, name: str) -> FeatureInfo:
    """The view or function called `name`. NotFound lists the known ones."""
    found = listed(ctx)
    for info in found:
        if info.name == name:
            return info
    raise NotFound.of("feature", name, [info.name for info in found])


def _info(specs: Specs, source: StoredView | RequestFeatures, position: dict[str, int] | None) -> FeatureInfo:
    models = [model.name for model in specs.all(ModelSpec) if any(s is source for s in model.features.sources)]
    stream: str | None = None
    by: tuple[str, ...] = ()
    if isinstance(source, RequestFeatures):
        kind, reads = "function", source.inputs
    else:
        kind, reads = "windows" if isinstance(source, WindowView) else "attributes", source.source_columns
        stream, by = source.stream, source.by
    return FeatureInfo(
        source.name, kind, stream, list(by), list(reads), list(source.columns), source.definition_hash, position, models,
        source.where,
    )  # fmt: skip


def feature_set(specs: Specs, name: str) -> FeatureSet:
    """The features of the model, or the view, or the function with what it reads, called `name`; NotFound."""
    sources: dict[str, StoredView | RequestFeatures] = {f.name: f for f in specs.all(RequestFeatures)}
    sources |= {view.name: view for view in stored_views(specs)}
    models = {model.name: model for model in specs.all(ModelSpec)}
    if name in models:
        return models[name].features
    if name not in sources:
        raise NotFound.of("feature or model", name, [*sources, *models])
    makers = {column: source for source in sources.values() for column in source.columns}
    wanted: dict[str, StoredView | RequestFeatures] = {}
    waiting = [sources[name]]
    while waiting:
        source = waiting.pop()
        if source.name not in wanted:
            wanted[source.name] = source
            inputs = source.inputs if isinstance(source, RequestFeatures) else ()
            waiting += [makers[column] for column in inputs if column in makers]
    return FeatureSet(tuple(wanted.values()))


def read(ctx: Context, name: str, fields: Sequence[str], at: str | None) -> ReadFeatures:
    """The values for the request of `fields` (`FIELD=VALUE`), as of `at`, by default now, from the online store."""
    features = feature_set(ctx.specs, name)
    moment = ctx.clock.now() if at is None else parse_time(at)
    stream = asking_stream(features)
    request = _request(ctx.specs, stream, fields)
    if stream is not None:
        request.setdefault(ctx.specs.get(StreamSpec, stream).time, moment)
    row = FeatureReader(ctx.online, ctx.namespace, features, ctx.specs).read(request, moment, None)
    values = {c: None if math.isnan(v) else v for c, v in zip(features.columns, row.values.tolist(), strict=True)}
    ages = {view: None if age is None else age / SECOND for view, age in row.age.items()}
    return ReadFeatures(format_time(moment), values, row.positions, ages)


def _request(specs: Specs, stream: str | None, fields: Sequence[str]) -> dict[str, Any]:
    types: dict[str, FieldType] = {field.name: field.type for spec in specs.all(StreamSpec) for field in spec.fields}
    if stream is not None:
        types |= {field.name: field.type for field in specs.get(StreamSpec, stream).fields}
    request: dict[str, Any] = {}
    for given in fields:
        name, equals, text = given.partition("=")
        if not equals:
            raise UsageError(f"`{given}` is not FIELD=VALUE", hint="write for example customer_id=42")
        if name not in types:
            raise NotFound.of("field", name, types)
        request[name] = _value(name, types[name], text)
    return request


def _value(name: str, kind: FieldType, text: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "datetime":
            return parse_time(text)
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except (ValueError, KeyError):
        raise InvalidInput(f"`{name}` is `{kind}`, not `{text}`", hint="mend the value", field=name) from None


def export(ctx: Context, name: str, out: Path, *, start: str | None, end: str | None, known_at: str | None) -> ExportedFeatures:
    """Write Parquet: of a model its training set for asking times from `start` to `end`, with the labels mature at `known_at`;
    of a view its values for every key known at `known_at`, asked then. `known_at` is now by default."""
    moment = ctx.clock.now() if known_at is None else parse_time(known_at)
    models = {model.name: model for model in ctx.specs.all(ModelSpec)}
    if name in models and (start is None or end is None):
        raise UsageError(f"the training set of `{name}` needs a time", hint="give `--from` and `--to`")
    if name not in models and (start is not None or end is not None):
        raise UsageError(f"`{name}` is no model: its values are asked at one time", hint="give `--known-at` alone")
    if name in models:
        assert start is not None and end is not None
        frame = training_set(ctx, models[name], start=parse_time(start), end=parse_time(end), known_at=moment)
    else:
        frame = _as_known(ctx, feature_set(ctx.specs, name), name, moment)
    write_table(frame, out)
    return ExportedFeatures(str(out), frame.height, frame.columns)


def _as_known(ctx: Context, features: FeatureSet, name: str, at: int) -> pl.DataFrame:
    """The values of a view for each of its keys that an event known at `at` has, in order of the key."""
    view = next((view for view in features.views if view.name == name), None)
    if view is None:
        raise UsageError(f"`{name}` is a function: it has values of requests only", hint="export a view or a model")
    stream = ctx.specs.get(StreamSpec, view.stream)
    frames = {needed: history(ctx, needed) for needed in streams_of(features)}
    known = frames[stream.name].filter((pl.col(stream.time).to_physical() <= at) & (pl.col("_created") <= at))
    keys = known.select(view.by).drop_nulls().unique().sort(view.by) if view.by else pl.DataFrame({"": [0]}).select()
    count = keys.height if view.by else 1
    moment = pl.Series(stream.time, [at] * count, pl.Int64).cast(pl.Datetime("us", "UTC"))
    own = pl.Series("_own", [-1] * count, pl.Int64)
    asking = pl.DataFrame([*keys.get_columns(), moment, moment.alias("_at"), own])
    rows = backfill(features, asking, frames, ctx.specs, spine=None)
    return rows.select(*view.by, stream.time, *(column for column in features.given if column not in view.by))
