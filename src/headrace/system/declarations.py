"""`hr.System`: declaring is registering. Every method checks what it is given and names the place it stands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from headrace.data.retention_limits import parse_retention
from headrace.data.types import Expectation, Folder, JoinSpec, Query, SourceSpec, StreamSpec
from headrace.features.types import (
    Aggregate,
    AttributeView,
    FeatureSet,
    Label,
    RequestFeatures,
    SnapshotSpine,
    Spine,
    WindowView,
)
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.ids import checked_name, snake_case
from headrace.kernel.specs import Origin, Spec, Specs
from headrace.monitoring.types import Trigger, WatchSpec
from headrace.release.types import Plan
from headrace.serving.types import ServiceSpec
from headrace.system import consistency
from headrace.system.feature_views import check_attributes, check_windows, spans, text_fields, view_name
from headrace.system.inference import fields_of
from headrace.system.places import declared_at, standing_at
from headrace.system.resolution import Everything, check_acyclic, default_spine, resolve_features
from headrace.system.source_terms import checked_source
from headrace.system.stream_terms import check_join, check_roles, check_stream
from headrace.system.terms import STREAM_NAMES, approval, keys_of, rate, span
from headrace.system.trials import samples_of, try_features, try_predicate
from headrace.training.types import ModelSpec

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


class System:
    """One AI system, declared in one file. Names follow INTERFACE.md; a wrong declaration raises InvalidSystem with
    its line."""

    def __init__(self, name: str) -> None:
        with standing_at(declared_at()):
            self.name = checked_name("system", name)
        self._specs: dict[tuple[str, str], Spec] = {}
        self._by_object: dict[int, Any] = {}
        self._samples: dict[str, np.ndarray] = {}
        """One row of each feature declared so far, for the functions that read it."""
        self.origin: Origin | None = None

    def specs(self) -> Specs:
        """Everything declared so far."""
        return Specs(self._specs.values(), origin=self.origin)

    def stream(
        self,
        *,
        id: str,
        key: str,
        time: str,
        created: str | None = None,
        name: str | None = None,
        max_future: str = "5m",
        lateness: str = "1d",
        retention: str | None = None,
        partitions: int = 1,
        explode: str | None = None,
        expect: Sequence[Expectation] = (),
    ) -> Callable[[Class], Class]:
        """Declare a stream by a typed class. `id`, `key`, `time` and `created` name its fields; `partitions` are by `key`. With
        `explode` each element of the array at that dotted path is an event; `expect` are rules over fields or events."""

        def declare(cls: Class) -> Class:
            place = declared_at()
            fields = fields_of(cls, place)
            check_roles(cls.__name__, fields, {"id": id, "key": key, "time": time, "created": created}, place)
            with standing_at(place):
                kept = parse_retention(retention)
            spec = StreamSpec(
                self._new_name("stream", name or snake_case(cls.__name__), place), fields, id, key, time, created,
                span(max_future), span(lateness), *kept,
                inspect.cleandoc(cls.__doc__ or ""), place, partitions=partitions, explode=explode, expect=tuple(expect),
            )  # fmt: skip
            self._add(check_stream(spec), cls)
            STREAM_NAMES[cls] = spec.name
            return cls

        return declare

    def source(self, stream: type, reads: Folder | Query, *, name: str | None = None) -> SourceSpec:
        """Read `hr.folder(...)` or `hr.query(...)` into `stream` on a schedule. `name` defaults to the stream's."""
        place = declared_at()
        into = self._stream(stream, place).name
        spec = checked_source(SourceSpec(self._new_name("source", name or into, place), into, reads, place))
        self._add(spec, spec)
        return spec

    def join(self, stream: type, report: type, *, on: str) -> JoinSpec:
        """The events of `stream`, knowing whether an event of `report` with the same `on` has arrived."""
        place = declared_at()
        left, right = self._stream(stream, place), self._stream(report, place)
        check_join(left, right, on, place)
        spec = JoinSpec(f"{left.name}_{right.name}", left.name, right.name, on, place)
        self._add(spec, spec)
        return spec

    def windows(
        self,
        stream: type | JoinSpec,
        *,
        by: str | tuple[str, ...],
        over: Sequence[str],
        name: str | None = None,
        where: Callable[..., Any] | None = None,
        delay: str | None = None,
        own_event: bool = False,
        resolution: str | None = None,
        **aggregates: Aggregate,
    ) -> WindowView:
        """Aggregates over sliding windows of the events with the same `by`. With `resolution`, such as "1h", windows begin
        at multiples of it and are added tile by tile. Columns are `{name}_{aggregate}_{window}`."""
        place = declared_at()
        join = stream if isinstance(stream, JoinSpec) else None
        spec = self._specs[("stream", join.stream)] if join else self._stream(stream, place)
        assert isinstance(spec, StreamSpec)
        keys = keys_of(by, place)
        if where is not None:
            try_predicate(where, spec, place)
        view = WindowView(
            self._new_name("view", view_name(name, keys), place), spec.name, keys, spans(over, place),
            tuple(aggregates.items()), join, where, 0 if delay is None else span(delay), own_event, place, text_fields(spec),
            0 if resolution is None else span(resolution),
        )  # fmt: skip
        check_windows(view, spec)
        consistency.check_columns(view, self.specs(), place)
        self._add(view, view)
        self._samples |= samples_of(view, spec)
        return view

    def attributes(
        self, stream: type, *, by: str | tuple[str, ...], columns: Sequence[str], ttl: str | None = None,
        name: str | None = None,
    ) -> AttributeView:  # fmt: skip
        """The newest known values of columns, for each `by`; null when older than `ttl`. Columns are `{name}_{column}`."""
        place = declared_at()
        spec, keys = self._stream(stream, place), keys_of(by, place)
        view = AttributeView(
            self._new_name("view", name or f"{view_name(name, keys)}_attributes", place), view_name(name, keys), spec.name,
            keys, tuple(columns or ()), span(ttl) if ttl else None, place, text_fields(spec),
        )  # fmt: skip
        check_attributes(view, spec, columns)
        consistency.check_columns(view, self.specs(), place)
        self._add(view, view)
        self._samples |= samples_of(view, spec)
        return view

    def features(self, function: Function) -> Function:
        """Declare a plain function over arrays; its parameters name request fields or earlier features."""
        place = declared_at()
        name = self._new_name("features", function.__name__, place)
        made = try_features(function, self._specs.values(), self._samples, place)
        spec = RequestFeatures(name, function, tuple(inspect.signature(function).parameters), tuple(made), place)
        consistency.check_columns(spec, self.specs(), place)
        self._add(check_acyclic(spec, self.specs()), function)
        self._samples |= made
        return function

    def model(
        self,
        *,
        features: Sequence[Any],
        label: Label,
        spine: type | SnapshotSpine | None = None,
        parameters: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        evaluate: Callable[..., dict[str, float]] | None = None,
    ) -> Callable[[Function], Function]:
        """Declare a model by its training function `f(rows, labels, **parameters)`."""

        def declare(function: Function) -> Function:
            place = declared_at()
            name = self._new_name("model", function.__name__, place)
            everything = Everything(self._specs, self._by_object)
            found: Spine = default_spine(name, spine, label, everything, place)
            consistency.check_label(name, label, found, everything.fields(), place)
            chosen = FeatureSet(resolve_features(features, found, everything, place))
            consistency.check_features(name, chosen, place)
            consistency.check_training(function, parameters or {}, search or {}, evaluate, place)
            spec = ModelSpec(
                name, function, chosen, label, found, dict(parameters or {}), dict(search or {}), evaluate,
                inspect.cleandoc(function.__doc__ or ""), place,
            )  # fmt: skip
            self._add(spec, function)
            return function

        return declare

    def service(
        self,
        model: Callable[..., Any],
        *,
        request: type,
        name: str | None = None,
        key: str | None = None,
        appends: type | None = None,
        p99: str | None = None,
        release: Plan | None = None,
    ) -> ServiceSpec:
        """Declare a service. `request` is a stream or a plain typed class with `key=`; answered ones go to `appends`, too."""
        place = declared_at()
        spec = self._by_object.get(id(model))
        if not isinstance(spec, ModelSpec):
            shown = getattr(model, "__name__", repr(model))
            raise InvalidSystem(f"{place}: `{shown}` is not a model of this system; declared: {self._known('model')}",
                                hint="decorate it with @system.model(...)")  # fmt: skip
        stream = self._by_object.get(id(request))
        if isinstance(stream, StreamSpec):
            fields, time, id_, default_key = stream.fields, stream.time, stream.id, stream.key
        else:
            stream, (fields, time, id_, default_key) = None, (fields_of(request, place), None, None, None)
        entity = key or default_key
        if entity is not None and entity not in {f.name for f in fields}:
            raise InvalidSystem(f"{place}: the request has no field `{entity}`", hint="mend `key=`")
        found = self._new_name("service", name or spec.name, place)
        consistency.check_release(found, release, place)
        target = None if appends is None else self._stream(appends, place)
        service = ServiceSpec(
            found, spec, fields, time, id_, entity, stream.name if stream else None, target.name if target else None,
            span(p99) if p99 else None, tuple(release or ()), place,
        )  # fmt: skip
        consistency.check_request(service, Everything(self._specs, self._by_object).fields(), target)
        self._add(service, service)
        return service

    def watch(
        self,
        service: ServiceSpec,
        *,
        retrain_when: Trigger,
        at_most: str = "1/day",
        approve: str = "auto",
        window: str = "7d",
        every: str = "1d",
        train_on: str = "14d",
        holdout: str = "3d",
        retrain_after: str | None = None,
    ) -> WatchSpec:
        """Watch a service; retrain and release by policy. `at_most` is such as `1/day`, `2/7d`."""
        place = declared_at()
        if not isinstance(service, ServiceSpec):
            raise InvalidSystem(f"{place}: `{service}` is not a service of this system; declared: {self._known('service')}",
                                hint="give what system.service(...) returned")  # fmt: skip
        spec = WatchSpec(
            self._new_name("watch", service.name, place), service.name, retrain_when,
            rate(at_most, place), approval(approve, place), span(window), span(every),
            span(train_on), span(holdout), 0 if retrain_after is None else span(retrain_after), where=place,
        )  # fmt: skip
        consistency.check_watch(spec)
        self._add(spec, spec)
        return spec

    def _stream(self, cls: object, place: str) -> StreamSpec:
        spec = self._by_object.get(id(cls))
        if not isinstance(spec, StreamSpec):
            shown = getattr(cls, "__name__", cls)
            raise InvalidSystem(f"{place}: `{shown}` is not a stream of this system; declared: {self._known('stream')}",
                                hint="decorate the class with @system.stream(...)")  # fmt: skip
        return spec

    def _known(self, kind: str) -> str:
        return ", ".join(f"`{name}`" for known, name in self._specs if known == kind) or "none"

    def _new_name(self, kind: str, name: str, place: str) -> str:
        with standing_at(place):
            checked_name(kind, name)
        if (kind, name) in self._specs:
            earlier = getattr(self._specs[(kind, name)], "where", "")
            raise InvalidSystem(f"{place}: {kind} `{name}` is declared twice, first at {earlier}",
                                hint="remove one, or give it another name")  # fmt: skip
        return name

    def _add(self, spec: Spec, declared: object) -> None:
        consistency.check_hidden(Specs((*self._specs.values(), spec)), declared_at())
        self._specs[(spec.kind, spec.name)] = spec
        self._by_object[id(declared)] = spec
