"""Resolving what a model names: its spine and its features, in an order in which they can be computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.data.types import FieldType, JoinSpec, StreamSpec
from headrace.features.column_types import aggregate_type
from headrace.features.requests import ordered
from headrace.features.types import (
    Aggregate,
    EventSpine,
    FeatureSet,
    FeatureSource,
    Label,
    RequestFeatures,
    RequestField,
    SnapshotSpine,
    Spine,
    StoredView,
)
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.specs import Specs

NUMERIC = ("int", "float", "bool")
EMPTY: Mapping[FieldType, tuple[str, str]] = {
    "int": ("a whole number of 64 bits", "empty=0"),
    "float": ("a number that a float of 64 bits is", "empty=0.0"),
    "bool": ("0 or 1", "empty=0"),
}
"""What `empty=` may be of an aggregate by its type, and an example; what is absent has none."""


@dataclass(frozen=True)
class Everything:
    """What the system has declared so far."""

    specs: Mapping[tuple[str, str], Any]
    by_object: Mapping[int, Any]

    def streams(self) -> list[StreamSpec]:
        return [s for s in self.specs.values() if isinstance(s, StreamSpec)]

    def fields(self) -> dict[str, dict[str, FieldType]]:
        """The field names of each stream, with their types."""
        return {stream.name: {field.name: field.type for field in stream.fields} for stream in self.streams()}

    def joins(self) -> list[JoinSpec]:
        return [s for s in self.specs.values() if isinstance(s, JoinSpec)]


def check_aggregate(label: str, aggregate: Aggregate, stream: StreamSpec, join: JoinSpec | None, where: str) -> None:
    """InvalidSystem when the aggregate cannot be computed over the stream."""
    types = {f.name: f.type for f in stream.fields}
    if not isinstance(aggregate, Aggregate):
        raise InvalidSystem(f"{where}: `{label}={aggregate!r}` is not an aggregate", hint="use hr.count(), hr.mean(...)")
    if not label.isidentifier():
        raise InvalidSystem(f"{where}: `{label}` cannot name an aggregate", hint="choose a name such as `mean_amount`")
    if aggregate.kind == "share" and (join is None or aggregate.report != join.report):
        raise InvalidSystem(
            f"{where}: `{label}` is a share of `{aggregate.report}`, but the windows are not over a stream joined with it",
            hint="windows(system.join(Stream, Report, on=...), ...)",
        )
    if aggregate.column is not None and aggregate.column not in types:
        raise InvalidSystem(f"{where}: `{label}` aggregates `{aggregate.column}`; `{stream.name}` has {', '.join(types)}",
                            hint="name a field of the stream")  # fmt: skip
    if aggregate.kind in ("sum", "mean", "min", "max", "std") and types[aggregate.column or ""] not in NUMERIC:
        found = f"the {aggregate.kind} of `{aggregate.column}`, which is `{types[aggregate.column or '']}`"
        raise InvalidSystem(f"{where}: `{label}` is {found}", hint="aggregate an int, float or bool field")
    kind = aggregate_type(aggregate, stream)
    if aggregate.empty is not None and not _holds(kind, aggregate.empty):
        allowed, hint = EMPTY.get(kind, ("none", "leave `empty=` out: the value over no events is null"))
        raise InvalidSystem(f"{where}: `{label}` has empty={aggregate.empty!r} and is `{kind}`; allowed: {allowed}", hint=hint)


def _holds(kind: FieldType, value: object) -> bool:
    """Whether a column of the type holds the value as it is. A text or a time has none that would be a number."""
    if kind == "bool":
        return value in (0, 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and math.isnan(value)):
        return False
    if kind == "int":
        return value == value // 1 and -(2**63) <= value < 2**63
    return kind == "float" and (isinstance(value, float) or (abs(value) < 2**1023 and int(float(value)) == value))


def default_spine(model: str, given: Any, label: Label, everything: Everything, where: str) -> Spine:
    """The model's spine: as given, else the stream that is joined with the label's report."""
    if not isinstance(label, Label):
        raise InvalidSystem(f"{where}: label={label!r} of model `{model}` is not a label",
                            hint="use hr.label, hr.no_event, hr.value, hr.value_after or hr.future")  # fmt: skip
    stream = everything.by_object.get(id(given)) if isinstance(given, type) else None
    known = {s.name for s in everything.streams()}
    if label.stream not in known:
        raise InvalidSystem(f"{where}: the label of model `{model}` names `{label.stream}`, which is no stream of the system; "
                            f"declared: {', '.join(sorted(known))}", hint="declare the stream above the model")  # fmt: skip
    if given is not None and not isinstance(given, SnapshotSpine) and not isinstance(stream, StreamSpec):
        raise InvalidSystem(f"{where}: spine={given!r} of model `{model}` is no stream of the system and no hr.every(...)",
                            hint='give spine=Stream or spine=hr.every("1w", key=...)')  # fmt: skip
    if label.aggregate is not None:
        check_aggregate("label", label.aggregate, everything.specs[("stream", label.stream)], None, where)
    if isinstance(given, SnapshotSpine):
        return replace(given, stream=given.stream or label.stream)
    if isinstance(stream, StreamSpec):
        return EventSpine(stream.name)
    if label.kind in ("label", "value"):
        for join in everything.joins():
            if join.report == label.stream:
                return EventSpine(join.stream)
    raise InvalidSystem(f"{where}: the asking points of model `{model}` are not clear",
                        hint='give spine=Stream or spine=hr.every("1w", key=...)')  # fmt: skip


def _sources(features: Sequence[Any], fields: Mapping[str, str], everything: Everything, where: str) -> list[FeatureSource]:
    if not isinstance(features, list | tuple):
        raise InvalidSystem(f"{where}: features=`{features}` is not a list", hint=f'features=["{features}"]')
    sources: list[FeatureSource] = []
    for feature in features:
        spec = everything.by_object.get(id(feature))
        if isinstance(feature, str):
            if feature not in fields:
                raise InvalidSystem(f"{where}: feature `{feature}` is no field of the asking row; it has {', '.join(fields)}",
                                    hint="name a field, a windows view or a @system.features function")  # fmt: skip
            if fields[feature] not in NUMERIC:
                raise InvalidSystem(f"{where}: feature `{feature}` is `{fields[feature]}`, a model takes numbers",
                                    hint="turn it into numbers in a @system.features function")  # fmt: skip
            sources.append(RequestField(feature))
        elif isinstance(spec, StoredView | RequestFeatures):
            if isinstance(spec, StoredView):
                _check_keys(spec, fields, everything, where)
            sources.append(spec)
        else:
            raise InvalidSystem(f"{where}: `{feature!r}` is not a feature of this system",
                                hint="list field names, windows views and @system.features functions")  # fmt: skip
    return sources


def _check_keys(view: StoredView, fields: Mapping[str, str], everything: Everything, where: str) -> None:
    """InvalidSystem unless the asking row has the keys of the view, of their types."""
    types = everything.fields()[view.stream]
    for key in view.by:
        if fields.get(key) != types[key]:
            found = f"which is `{types[key]}` there, in the asking row {f'`{fields[key]}`' if key in fields else 'absent'}"
            raise InvalidSystem(f"{where}: {view.kind} `{view.name}` ({view.where}) is by `{key}`, {found}",
                                hint=f"ask with a field `{key}: {types[key]}`, or leave the view out")  # fmt: skip


def _check_label_column(sources: Sequence[FeatureSource], spine: Spine, asking: StreamSpec, where: str) -> None:
    """InvalidSystem when a column of the training set beside the label is called `label`."""
    keys = spine.keys if isinstance(spine, SnapshotSpine) else (asking.key,)
    given = {"key": keys, "time": (asking.time,)}
    for source in sources:
        given["feature"] = (source.name,) if isinstance(source, RequestField) else source.columns
        role = next((role for role, columns in given.items() if "label" in columns), None)
        if role is not None:
            raise InvalidSystem(f"{where}: the {role} `label` would be in the training set beside the label, so named",
                                hint=f"give the {role} another name")  # fmt: skip


def resolve_features(features: Sequence[Any], spine: Spine, everything: Everything, where: str) -> tuple[FeatureSource, ...]:
    """The sources in model order. Functions may read what other sources give; a cycle is an error that names it."""
    asking = everything.specs[("stream", spine.stream)]
    fields = {f.name: f.type for f in asking.fields if isinstance(spine, EventSpine) or f.name in spine.keys}
    if isinstance(spine, SnapshotSpine):
        fields[asking.time] = "datetime"
    sources = _sources(features, fields, everything, where)
    _check_label_column(sources, spine, asking, where)
    ready = set(fields)
    for source in sources:
        ready.update(() if isinstance(source, RequestFeatures) else FeatureSet((source,)).given)
    waiting = [s for s in sources if isinstance(s, RequestFeatures)]
    while waiting:
        possible = [s for s in waiting if set(s.inputs) <= ready]
        if not possible:
            made = {column for s in waiting for column in s.columns}
            missing = [i for s in waiting for i in s.inputs if i not in ready | made]
            names = " -> ".join(f"`{s.name}`" for s in waiting)
            if missing:
                known = ", ".join(sorted(ready))
                raise InvalidSystem(
                    f"{where}: features {names} read `{missing[0]}`, which nothing gives; known: {known}",
                    hint="mend the parameter's name",
                )
            raise InvalidSystem(f"{where}: the features {names} read each other: a cycle", hint="break it")
        for s in possible:
            ready.update(s.columns)
            waiting.remove(s)
    return tuple(sources)


def check_acyclic(function: RequestFeatures, declared: Specs) -> RequestFeatures:
    """The function; InvalidSystem when it and others that are declared read each other."""
    try:
        ordered(FeatureSet((*declared.all(RequestFeatures), function)))
    except InvalidSystem as error:
        raise InvalidSystem(f"{function.where}: {error.message}", hint=error.hint) from None
    return function
