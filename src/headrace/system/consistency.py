"""What a declaration must agree with in itself and with what it names, found while declaring and not when data flow."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.data.checking import check_rules
from headrace.data.types import Field, FieldType, StreamSpec
from headrace.features.types import NoEventLabel, ReportLabel, RequestFeatures, RequestField, SnapshotSpine, Spine, WindowView
from headrace.kernel.errors import HeadraceError, InvalidSystem
from headrace.kernel.specs import Specs
from headrace.monitoring.types import Trigger, WatchSpec
from headrace.release.policies import checked
from headrace.release.types import Plan, Policy
from headrace.serving.types import ServiceSpec

Fields = Mapping[str, Mapping[str, FieldType]]
"""The field names of each stream, with their types."""
KEYS = ("int", "str", "bool")
"""Types whose values are the same key in the log, the store, the router and the join; a float's text is not."""


def check_stream(name: str, fields: Sequence[Field], roles: Mapping[str, str | None], where: str) -> None:
    """InvalidSystem unless the roles (id, key, time, created) name fields of fitting types and the rules can hold."""
    types = {f.name: f.type for f in fields}
    for role, column in roles.items():
        if column is None:
            continue
        if column not in types:
            raise InvalidSystem(
                f"{where}: stream `{name}` has {role}=`{column}`, which is none of its fields: "
                f"{', '.join(f'`{f}`' for f in types)}",
                hint=f"add the field or mend `{role}=`",
            )
        allowed = ("datetime",) if role in ("time", "created") else KEYS
        if types[column] not in allowed:
            raise InvalidSystem(
                f"{where}: stream `{name}` has {role}=`{column}` of type `{types[column]}`; allowed: {', '.join(allowed)}",
                hint=f"annotate `{column}` as {allowed[0]}, or name another field",
            )
    reserved = next((f for f in types if f.startswith("_")), None)
    if reserved is not None:
        raise InvalidSystem(f"{where}: stream `{name}` has the field `{reserved}`; names with `_` in front are ours",
                            hint="rename it")  # fmt: skip
    for f in fields:
        if f.personal is not None and f.personal.subject not in types:
            raise InvalidSystem(
                f"{where}: field `{f.name}` of stream `{name}` is personal of `{f.personal.subject}`, which is none of its "
                f"fields: {', '.join(f'`{f}`' for f in types)}",
                hint="name the field that identifies the person: hr.Personal(subject=...)",
            )
    try:
        check_rules(fields)
    except InvalidSystem as error:
        raise InvalidSystem(f"{where}: stream `{name}`: {error.message}", hint=error.hint) from None


def check_join(left: StreamSpec, right: StreamSpec, on: str, where: str) -> None:
    """InvalidSystem unless both streams have the field, of one type."""
    for side in (left, right):
        if on not in {f.name for f in side.fields}:
            raise InvalidSystem(f"{where}: `{side.name}` has no field `{on}` to join on",
                                hint=f"use one of {', '.join(f.name for f in side.fields)}")  # fmt: skip
    types = [side.field(on).type for side in (left, right)]
    if types[0] != types[1] or types[0] not in KEYS:
        raise InvalidSystem(
            f"{where}: `{on}` is `{types[0]}` in `{left.name}` and `{types[1]}` in `{right.name}`; "
            f"a join is on one type of {', '.join(KEYS)}",
            hint=f"annotate `{on}` alike in both",
        )


def window_keys(by: object, stream: StreamSpec, where: str) -> tuple[str, ...]:
    """The key columns of windows. InvalidSystem unless they are different fields of a type that can be a key."""
    keys: tuple[Any, ...] = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, tuple | list) else (by,)
    types = {f.name: f.type for f in stream.fields}
    for key in keys:
        if key not in types:
            raise InvalidSystem(f"{where}: `{stream.name}` has no field `{key}`; it has {', '.join(types)}",
                                hint="`by` names fields of the stream")  # fmt: skip
        if types[key] not in KEYS:
            raise InvalidSystem(f"{where}: windows by `{key}`, which is `{types[key]}`; allowed: {', '.join(KEYS)}",
                                hint="choose a field that names something: a customer, a card, a shop")  # fmt: skip
    if len(set(keys)) < len(keys):
        raise InvalidSystem(f"{where}: by={keys!r} names a field twice", hint="name each field once")
    return keys


def check_columns(source: WindowView | RequestFeatures, declared: Specs, where: str) -> None:
    """InvalidSystem when a view or function declared before gives a column of the same name."""
    others: list[WindowView | RequestFeatures] = [*declared.all(WindowView), *declared.all(RequestFeatures)]
    for other in others:
        both = next((column for column in source.columns if column in other.columns), None)
        if both is not None:
            raise InvalidSystem(
                f"{where}: {source.kind} `{source.name}` gives the feature `{both}`, "
                f"as {other.kind} `{other.name}` ({other.where}) does",
                hint="give one of them another name",
            )


def check_windows(over: Sequence[str], delay: str | None, own_event: bool, where: str) -> None:
    """InvalidSystem unless `over` lists different windows, and the asking event can lie in them."""
    if isinstance(over, str) or len(set(over)) < len(over):
        raise InvalidSystem(f"{where}: over={over!r} is not a list of different windows", hint='over=["1d", "7d"]')
    if own_event and delay is not None:
        raise InvalidSystem(
            f"{where}: windows that end {delay} before the asking time cannot hold the asking event",
            hint="leave out `delay=` or `own_event=`",
        )


def check_label(model: str, label: object, spine: Spine, streams: Fields, where: str) -> None:
    """InvalidSystem unless the label's stream and the asking points have the field that connects them."""
    assert isinstance(label, ReportLabel | NoEventLabel)
    stream, field = (label.report, label.on) if isinstance(label, ReportLabel) else (label.stream, label.by)
    asking = dict(streams[spine.stream])
    if isinstance(spine, SnapshotSpine):
        if spine.key not in asking:
            raise InvalidSystem(
                f"{where}: model `{model}` asks for each `{spine.key}`, which `{spine.stream}` does not have; "
                f"it has {', '.join(asking)}",
                hint="mend `key=` of hr.every",
            )
        asking = {spine.key: asking[spine.key]}
    for place, known in ((f"`{stream}`", streams[stream]), ("the asking row", asking)):
        if field not in known:
            raise InvalidSystem(
                f"{where}: the label of model `{model}` connects by `{field}`, which {place} does not have; "
                f"it has {', '.join(known)}",
                hint="mend `on=` or `by=` of the label",
            )
    if streams[stream][field] != asking[field]:
        raise InvalidSystem(
            f"{where}: the label of model `{model}` connects by `{field}`, which is `{streams[stream][field]}` in `{stream}` "
            f"and `{asking[field]}` in the asking row",
            hint=f"annotate `{field}` alike in both",
        )


def check_features(model: str, columns: Sequence[str], where: str) -> None:
    """InvalidSystem unless there are features and all have different names."""
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise InvalidSystem(f"{where}: model `{model}` has the feature `{twice}` twice", hint="list each feature once")
    if not columns:
        raise InvalidSystem(f"{where}: model `{model}` has no features", hint="list fields, views or functions in `features=`")


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


def check_request(service: ServiceSpec, streams: Fields) -> None:
    """InvalidSystem unless the request has every field that the features read, of the type that the model was trained on,
    a key that can be one, and all that the stream needs to which it is appended."""
    features, where = service.model.features, service.where
    fields = {f.name: f.type for f in service.request}
    needed = [source.name for source in features.sources if isinstance(source, RequestField)]
    needed += [key for view in features.views for key in view.by]
    for source in features.sources:
        if isinstance(source, RequestFeatures):
            needed += [name for name in source.inputs if name not in features.columns]
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
