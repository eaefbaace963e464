"""What declared streams and joins must agree with in themselves and with their partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.data.checking import check_rules
from headrace.data.types import Field, StreamSpec
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.partitions import MAX_PARTITIONS
from headrace.system.expectation_terms import check_expectations

KEYS = ("int", "str", "bool")
"""Types whose values are the same key in the log, the store, the router and the join; a float's text is not."""


def check_roles(name: str, fields: Sequence[Field], roles: Mapping[str, str | None], where: str) -> None:
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


def check_stream(spec: StreamSpec) -> StreamSpec:
    """The stream; InvalidSystem for personal fields without a retention by age, and for a wrong number of partitions."""
    if any(field.personal for field in spec.fields) and spec.retention is None:
        raise InvalidSystem(
            f"{spec.where}: stream `{spec.name}` has personal fields and no retention by age",
            hint='declare how long they are kept: retention="365d"',
        )
    if not 1 <= spec.partitions <= MAX_PARTITIONS:
        raise InvalidSystem(
            f"{spec.where}: stream `{spec.name}` has partitions={spec.partitions}; allowed: 1 to {MAX_PARTITIONS}",
            hint="declare as many as processes are to apply it",
        )
    check_expectations(spec)
    return spec


def check_join(left: StreamSpec, right: StreamSpec, on: str, where: str) -> None:
    """InvalidSystem unless both have the field, of one type."""
    for side in (left, right):
        if on not in {field.name for field in side.fields}:
            raise InvalidSystem(
                f"{where}: `{side.name}` has no field `{on}` to join on",
                hint=f"use one of {', '.join(field.name for field in side.fields)}",
            )
    types = [side.field(on).type for side in (left, right)]
    if types[0] != types[1] or types[0] not in KEYS:
        raise InvalidSystem(
            f"{where}: `{on}` is `{types[0]}` in `{left.name}` and `{types[1]}` in `{right.name}`; "
            f"a join is on one type of {', '.join(KEYS)}",
            hint=f"annotate `{on}` alike in both",
        )


def check_by(view: str, by: Sequence[str], stream: StreamSpec, where: str) -> None:
    """InvalidSystem unless `by` are different fields that can be keys."""
    for key in by:
        kind = stream.field(key).type
        if kind not in KEYS:
            raise InvalidSystem(f"{where}: view `{view}` by `{key}`, which is `{kind}`; allowed: {', '.join(KEYS)}",
                                hint="choose a field that names something: a customer, a card, a shop")  # fmt: skip
    if len(set(by)) < len(by):
        raise InvalidSystem(f"{where}: by={tuple(by)!r} names a field twice", hint="name each field once")
