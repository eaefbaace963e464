"""Request features: plain functions over arrays, evaluated in the order of what they read."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from headrace.data.types import FieldType, StreamSpec
from headrace.features.types import FeatureSet, FeatureSource, RequestFeatures, WindowView, stored_views
from headrace.kernel.errors import InvalidInput, InvalidSystem
from headrace.kernel.specs import Specs


def with_inputs(sources: Sequence[FeatureSource], specs: Specs) -> FeatureSet:
    """The sources, each once, with the views and functions that give what their functions read."""
    makers = {column: source for source in (*stored_views(specs), *specs.all(RequestFeatures)) for column in source.columns}
    wanted: dict[str, FeatureSource] = {}
    waiting = list(reversed(sources))
    while waiting:
        source = waiting.pop()
        if source.name not in wanted:
            wanted[source.name] = source
            inputs = source.inputs if isinstance(source, RequestFeatures) else ()
            waiting += [makers[column] for column in reversed(inputs) if column in makers]
    return FeatureSet(tuple(wanted.values()))


def field_types(specs: Specs, asking: str | None) -> dict[str, FieldType]:
    """The types of the fields that a request may have: those of the streams, of the stream `asking` before all others."""
    types = {field.name: field.type for spec in specs.all(StreamSpec) for field in spec.fields}
    return types if asking is None else types | {field.name: field.type for field in specs.get(StreamSpec, asking).fields}


def askable(specs: Specs, fields: Set[str]) -> FeatureSet:
    """The views and functions that can be asked for by whoever has these fields."""
    views = [view for view in stored_views(specs) if set(view.by) <= fields]
    ready = fields | {column for view in views for column in view.columns}
    functions: list[RequestFeatures] = []
    waiting = specs.all(RequestFeatures)
    while possible := [f for f in waiting if set(f.inputs) <= ready]:
        functions += possible
        ready |= {column for f in possible for column in f.columns}
        waiting = [f for f in waiting if f not in possible]
    return FeatureSet((*functions, *views))


def asking_stream(features: FeatureSet) -> str | None:
    """The stream whose events ask, when nobody says so: that of the windows that add the asking event, else of all windows,
    else of all attributes."""
    windows = [view for view in features.views if isinstance(view, WindowView)]
    streams = {view.stream for view in windows if view.own_event} or {view.stream for view in windows or features.views}
    return next(iter(streams)) if len(streams) == 1 else None


class Readable(NamedTuple):
    """Features that are asked for by a name, and the stream whose events ask: a request has its fields."""

    features: FeatureSet
    asking: str | None


def ordered(features: FeatureSet) -> tuple[RequestFeatures, ...]:
    """The functions so that each comes after those whose columns it reads. InvalidSystem for a cycle."""
    waiting = [source for source in features.sources if isinstance(source, RequestFeatures)]
    result: list[RequestFeatures] = []
    while waiting:
        made = {column for source in waiting for column in source.columns}
        ready = [source for source in waiting if not made & set(source.inputs) - set(source.columns)]
        ready = [source for source in ready if not set(source.inputs) & set(source.columns)]
        if not ready:
            names = " -> ".join(f"`{source.name}`" for source in waiting)
            raise InvalidSystem(f"the features {names} read each other: a cycle", hint="let one of them read something else")
        result.extend(ready)
        waiting = [source for source in waiting if source not in ready]
    return tuple(result)


def evaluate_requests(functions: tuple[RequestFeatures, ...], arrays: MutableMapping[str, np.ndarray], rows: int) -> None:
    """Add the columns of the functions, given in order, to `arrays`, which holds what they read."""
    for source in functions:
        try:
            given = {name: arrays[name] for name in source.inputs}
        except KeyError as error:
            raise InvalidInput(
                f"features `{source.name}` ({source.where}) read `{error.args[0]}`, which the asking row does not have",
                hint=f"it has {', '.join(arrays)}",
            ) from None
        made: Mapping[str, object] = source.function(**given)
        for column in source.columns:
            values = np.asarray(made[column])
            if values.ndim == 0:
                values = np.broadcast_to(values, rows)
            if len(values) != rows:
                raise InvalidInput(
                    f"features `{source.name}` ({source.where}) gave {len(values)} values of `{column}` for {rows} rows",
                    hint="return arrays as long as the arguments",
                )
            arrays[column] = values
