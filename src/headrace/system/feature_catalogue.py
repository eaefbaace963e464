"""The declared features: what there is, what is materialised, and its values for one request."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from headrace.data.types import FieldType, StreamSpec
from headrace.engines.context import Context
from headrace.features.arriving import are_behind, check_built
from headrace.features.given_values import GivenValues
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.requests import Readable, asking_stream, field_types, with_inputs
from headrace.features.types import FeatureSet, RequestFeatures, StoredView, WindowView, stored_views
from headrace.kernel.errors import InvalidInput, NotFound, UsageError
from headrace.kernel.specs import Specs
from headrace.kernel.times import SECOND, format_time, parse_time
from headrace.release.live import kept_views
from headrace.system.types import FeatureInfo, ReadFeatures
from headrace.training.types import ModelSpec


def listed(ctx: Context) -> list[FeatureInfo]:
    """Every declared view and function, in the order of their declaration: views first; then what only live versions have."""
    views: dict[StoredView, list[str]] = {view: [] for view in stored_views(ctx.specs)} | kept_views(ctx)
    online = OnlineViews(ctx, list(views))
    found = []
    for view, versions in views.items():
        built = not are_behind(ctx, [view])
        found.append(_info(ctx.specs, view, online.positions(view), versions=versions, built=built))
    return found + [_info(ctx.specs, function, None) for function in ctx.specs.all(RequestFeatures)]


def shown(ctx: Context, name: str) -> FeatureInfo:
    """The view or function called `name`. NotFound lists the known ones."""
    found = listed(ctx)
    for info in found:
        if info.name == name:
            return info
    raise NotFound.of("feature", name, [info.name for info in found])


def _info(
    specs: Specs, source: StoredView | RequestFeatures, position: dict[str, int] | None, *, versions: Sequence[str] = (),
    built: bool | None = None,
) -> FeatureInfo:  # fmt: skip
    models = [model.name for model in specs.all(ModelSpec) if any(s is source for s in model.features.sources)]
    stream: str | None = None
    by: tuple[str, ...] = ()
    over = [label for label, _ in source.over] if isinstance(source, WindowView) else []
    if isinstance(source, RequestFeatures):
        kind, reads = "function", source.inputs
    else:
        kind, reads = "windows" if isinstance(source, WindowView) else "attributes", source.source_columns
        stream, by = source.stream, source.by
    return FeatureInfo(
        source.name, kind, stream, list(by), over, list(reads), list(source.columns), source.definition_hash, position, models,
        list(versions), built, source.where,
    )  # fmt: skip


def all_readable(specs: Specs) -> dict[str, Readable]:
    """`readable` of every declared view, function and model."""
    sources = [*stored_views(specs), *specs.all(RequestFeatures), *specs.all(ModelSpec)]
    return {source.name: readable(specs, source.name) for source in sources}


def readable(specs: Specs, name: str) -> Readable:
    """`feature_set` of `name`; events of its spine ask for a model."""
    features = feature_set(specs, name)
    spines = [model.spine.stream for model in specs.all(ModelSpec) if model.name == name]
    return Readable(features, spines[0] if spines else asking_stream(features))


def feature_set(specs: Specs, name: str) -> FeatureSet:
    """The features of the model, or the view, or the function with what it reads, called `name`; NotFound."""
    sources: dict[str, StoredView | RequestFeatures] = {f.name: f for f in specs.all(RequestFeatures)}
    sources |= {view.name: view for view in stored_views(specs)}
    models = {model.name: model for model in specs.all(ModelSpec)}
    if name in models:
        return models[name].features
    if name not in sources:
        raise NotFound.of("feature or model", name, [*sources, *models])
    return with_inputs([sources[name]], specs)


def read(ctx: Context, name: str, fields: Sequence[str], at: str | None) -> ReadFeatures:
    """The values for the request of `fields` (`FIELD=VALUE`), as of `at`, by default now, from the online store."""
    features, stream = readable(ctx.specs, name)
    check_built(ctx, features.views)
    moment = ctx.clock.now() if at is None else parse_time(at)
    request = _request(ctx.specs, stream, fields)
    if stream is not None:
        request.setdefault(ctx.specs.get(StreamSpec, stream).time, moment)
    row = FeatureReader(ctx.online, ctx.namespace, features, ctx.specs, asking=stream).read(request, moment, None)
    (given,) = GivenValues(features, ctx.specs, field_types(ctx.specs, stream)).of([row])
    values = {name: None if isinstance(value, float) and isnan(value) else value
              for name, value in zip(features.given, given, strict=True)}  # fmt: skip
    ages = {view: None if age is None else age / SECOND for view, age in row.age.items()}
    return ReadFeatures(format_time(moment), values, row.positions, ages)


def _request(specs: Specs, stream: str | None, fields: Sequence[str]) -> dict[str, Any]:
    types = field_types(specs, stream)
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
