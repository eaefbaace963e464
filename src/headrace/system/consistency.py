"""What a declaration must agree with in itself and with what it names, found while declaring and not when data flow."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Set
from typing import Any

from headrace.data.types import FieldType, StreamSpec
from headrace.features.requests import askable
from headrace.features.types import (
    FeatureSet,
    Label,
    RequestFeatures,
    RequestField,
    SnapshotSpine,
    Spine,
    StoredView,
    stored_views,
)
from headrace.kernel.errors import HeadraceError, InvalidSystem
from headrace.kernel.specs import Specs
from headrace.monitoring.types import Trigger, WatchSpec
from headrace.release.policies import checked
from headrace.release.types import Plan, Policy
from headrace.serving.types import ServiceSpec
from headrace.system.stream_terms import KEYS

Fields = Mapping[str, Mapping[str, FieldType]]
"""The field names of each stream, with their types."""


def check_columns(source: StoredView | RequestFeatures, declared: Specs, where: str) -> None:
    """InvalidSystem when a view or function declared before gives a column of the same name."""
    others: list[StoredView | RequestFeatures] = [*stored_views(declared), *declared.all(RequestFeatures)]
    for other in others:
        both = next((column for column in source.columns if column in other.columns), None)
        if both is not None:
            raise InvalidSystem(
                f"{where}: {source.kind} `{source.name}` gives the feature `{both}`, "
                f"as {other.kind} `{other.name}` ({other.where}) does",
                hint="give one of them another name",
            )


def check_hidden(declared: Specs, where: str) -> None:
    """InvalidSystem when a stream has a field of the name of a feature that its events can be asked for."""
    for stream in declared.all(StreamSpec):
        fields = {field.name for field in stream.fields}
        _check_hides(askable(declared, fields), fields, f"of stream `{stream.name}` ({stream.where})", where)


def _check_hides(features: FeatureSet, fields: Set[str], of: str, where: str) -> None:
    for source in features.sources:
        if isinstance(source, RequestField):
            continue
        hidden = next((column for column in source.columns if column in fields), None)
        if hidden is not None:
            raise InvalidSystem(
                f"{where}: the feature `{hidden}`, which {source.kind} `{source.name}` ({source.where}) gives, would hide the "
                f"field of that name {of}",
                hint="give the feature another name",
            )


def check_label(model: str, label: Label, spine: Spine, streams: Fields, where: str) -> None:
    """InvalidSystem unless the label's stream and the asking points have the fields that connect them."""
    asking: Mapping[str, FieldType] = streams[spine.stream]
    if isinstance(spine, SnapshotSpine):
        absent = next((key for key in spine.keys if key not in asking), None)
        if absent is not None or not spine.keys:
            raise InvalidSystem(
                f"{where}: model `{model}` asks for each `{absent or ''}`, which `{spine.stream}` does not have; "
                f"it has {', '.join(asking)}",
                hint="mend `key=` of hr.every",
            )
        asking = {key: asking[key] for key in spine.keys}
    for field in label.keys:
        for place, known in ((f"`{label.stream}`", streams[label.stream]), ("the asking row", asking)):
            if field not in known:
                raise InvalidSystem(
                    f"{where}: the label of model `{model}` connects by `{field}`, which {place} does not have; "
                    f"it has {', '.join(known)}",
                    hint="mend `on=` or `by=` of the label",
                )
        if streams[label.stream][field] != asking[field]:
            raise InvalidSystem(
                f"{where}: the label of model `{model}` connects by `{field}`, which is `{streams[label.stream][field]}` in "
                f"`{label.stream}` and `{asking[field]}` in the asking row",
                hint=f"annotate `{field}` alike in both",
            )
    if label.column is not None and label.column not in streams[label.stream]:
        raise InvalidSystem(
            f"{where}: the label of model `{model}` is `{label.column}`, which `{label.stream}` does not have; "
            f"it has {', '.join(streams[label.stream])}",
            hint="name a field of the label's stream",
        )


def check_binary(service: str, model: str, label: Label, where: str) -> None:
    """InvalidSystem unless the model's answer is a probability, which is all that a service gives so far."""
    if not label.is_binary:
        raise InvalidSystem(
            f"{where}: service `{service}` would serve model `{model}`, whose label is hr.{label.kind}: a service gives the "
            "probability of hr.label or hr.no_event",
            hint="train and evaluate the model without a service, or ask a yes-or-no question",
        )


def check_features(model: str, features: FeatureSet, where: str) -> None:
    """InvalidSystem unless there are features, all have different names, and of a view with texts a function reads one."""
    columns = features.given
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InvalidSystem(f"{where}: model `{model}` has the feature `{twice}` twice", hint="list each feature once")
    if not columns:
        raise InvalidSystem(f"{where}: model `{model}` has no features", hint="list fields, views or functions in `features=`")
    read = {name for source in features.sources if isinstance(source, RequestFeatures) for name in source.inputs}
    unread = next((view.texts for view in features.views if view.texts and not read.intersection(view.texts)), None)
    if unread is not None:
        raise InvalidSystem(
            f"{where}: the feature `{unread[0]}` of model `{model}` is a text, and a model takes numbers",
            hint="make a number of it in a @system.features function, or use hr.distinct",
        )


def check_training(
    function: Callable[..., Any], parameters: Mapping[str, Any], search: Mapping[str, Any], evaluate: object, where: str
) -> None:
    """InvalidSystem unless the training function takes rows, labels and the parameters that are set and searched."""
    name, signature = function.__name__, inspect.signature(function)
    if evaluate is not None and not callable(evaluate):
        raise InvalidSystem(f"{where}: evaluate={evaluate!r} of model `{name}` is not a function", hint="evaluate=FUNCTION")
    for word, given in (("parameters", parameters), ("search", search)):
        if not isinstance(given, Mapping):
            raise InvalidSystem(f"{where}: {word}={given!r} of model `{name}` is not a dict", hint=f'{word}={{"depth": ...}}')
    try:
        signature.bind("rows", "labels", **{**parameters, **search})
    except TypeError as error:
        raise InvalidSystem(
            f"{where}: model `{name}` is called with rows, labels, {', '.join({**parameters, **search}) or 'no parameters'}; "
            f"it takes {', '.join(signature.parameters) or 'nothing'}: {error}",
            hint=f"def {name}(rows, labels, *, PARAMETER=DEFAULT)",
        ) from None
    for parameter, space in search.items():
        numbers = isinstance(space, tuple) and len(space) == 2 and all(type(end) in (int, float) for end in space)
        if not isinstance(space, tuple | list) or not space or (numbers and space[0] >= space[1]):
            raise InvalidSystem(
                f"{where}: model `{name}` searches `{parameter}` in {space!r}, which is no space",
                hint=f'search={{"{parameter}": (LOW, HIGH)}} or a list of choices',
            )


def check_request(service: ServiceSpec, streams: Fields, appends: StreamSpec | None) -> None:
    """InvalidSystem unless the request has every field that the features read, of the type that the model was trained on,
    a key that can be one, and all that the stream needs to which it is appended."""
    check_binary(service.name, service.model.name, service.model.label, service.where)
    features, where = service.model.features, service.where
    fields = {f.name: f.type for f in service.request}
    _check_hides(features, fields.keys(), f"of the request of service `{service.name}`", where)
    needed = [source.name for source in features.sources if isinstance(source, RequestField)]
    needed += [key for view in features.views for key in view.by]
    for source in features.sources:
        if isinstance(source, RequestFeatures):
            needed += [name for name in source.inputs if name not in features.given]
    asking = streams[service.model.spine.stream]
    for name in needed:
        if name not in fields:
            raise InvalidSystem(
                f"{where}: the request of service `{service.name}` has no field `{name}`, which the features of its model "
                f"read; it has {', '.join(fields)}",
                hint=f"add `{name}` to the request's class",
            )
        if fields[name] != asking.get(name, fields[name]):
            raise InvalidSystem(
                f"{where}: the request of service `{service.name}` has `{name}` as `{fields[name]}`, the rows that its model "
                f"is trained on as `{asking[name]}`",
                hint=f"annotate `{name}` alike in both",
            )
    if service.key is not None and fields[service.key] not in KEYS:
        raise InvalidSystem(
            f"{where}: service `{service.name}` has key=`{service.key}` of type `{fields[service.key]}`; "
            f"allowed: {', '.join(KEYS)}",
            hint="name the field of the entity, such as a customer",
        )
    if appends is not None:
        _check_appends(service, appends)


def _check_appends(service: ServiceSpec, stream: StreamSpec) -> None:
    """InvalidSystem unless every request can be an event of the stream."""
    fields, names = {f.name: f for f in service.request}, {f.name for f in stream.fields}
    for needed in stream.fields:
        given, wrong = fields.get(needed.name), None
        if given is None:
            wrong = "which the request does not have" if needed.required else None
        elif given.type != needed.type:
            wrong = f"which is `{needed.type}` there and `{given.type}` in the request"
        elif given.nullable and not needed.nullable:
            wrong = "which may be null in the request and not there"
        elif needed.read is not None and needed.read.path != needed.name and needed.read.path in names:
            wrong = f"which an event has as `{needed.read.path}`, the name of another field"
        if wrong is not None:
            raise InvalidSystem(
                f"{service.where}: service `{service.name}` appends its requests to `{stream.name}`, an event of which needs "
                f"`{needed.name}`, {wrong}",
                hint=f"annotate `{needed.name}` in the request's class as in `{stream.name}`",
            )


def check_release(service: str, release: object, where: str) -> None:
    """InvalidSystem unless the plan, where there is one, can be followed."""
    if release is None:
        return
    if not isinstance(release, Plan):
        raise InvalidSystem(f"{where}: release={release!r} of service `{service}` is not a plan",
                            hint='hr.shadow("1h") >> hr.canary(5, 25, 100) >> hr.probation("7d")')  # fmt: skip
    try:
        checked(Policy(release))
    except HeadraceError as error:
        raise InvalidSystem(f"{where}: service `{service}`: {error.message}", hint=error.hint) from None


def check_watch(watch: WatchSpec) -> None:
    """InvalidSystem unless the trigger compares a statistic with a threshold, and rows are left to train on."""
    where, trigger = watch.where, watch.retrain_when
    if not isinstance(trigger, Trigger):
        raise InvalidSystem(f"{where}: retrain_when={trigger!r} is not a trigger", hint="retrain_when=hr.psi > 0.2")
    if not 0 <= trigger.threshold < math.inf:
        raise InvalidSystem(
            f"{where}: retrain_when compares `{trigger.statistic}` with {trigger.threshold}; allowed: 0 or more",
            hint="retrain_when=hr.psi > 0.2",
        )
    if watch.holdout >= watch.train_on:
        raise InvalidSystem(f"{where}: `holdout` takes all of `train_on`: no rows are left to train on",
                            hint="make `train_on=` longer than `holdout=`")  # fmt: skip
