"""From Python annotations to typed fields."""

from __future__ import annotations

import types
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from headrace.data.types import Field, FieldType, From, NotNull, OneOf, Pattern, Personal, Range
from headrace.kernel.errors import InvalidSystem

TYPES: dict[type, FieldType] = {int: "int", float: "float", str: "str", bool: "bool", datetime: "datetime"}


def fields_of(cls: type, where: str) -> tuple[Field, ...]:
    """The fields of a typed class. InvalidSystem names the field whose annotation is not allowed."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidSystem(f"{where}: an annotation of `{cls.__name__}` does not resolve: {error}",
                            hint="import the name at the top of the file") from None  # fmt: skip
    fields = tuple(_field(name, hint, cls, where) for name, hint in hints.items())
    if not fields:
        raise InvalidSystem(f"{where}: `{cls.__name__}` has no typed fields", hint="annotate them: `amount: float`")
    return fields


def _field(name: str, hint: Any, cls: type, where: str) -> Field:
    extras: Sequence[Any] = ()
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
    nullable = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [a for a in get_args(hint) if a is not type(None)]
        nullable = len(members) < len(get_args(hint))
        hint = members[0] if len(members) == 1 else hint
    if hint not in TYPES:
        raise InvalidSystem(
            f"{where}: `{cls.__name__}.{name}` is annotated `{hint!r}`; allowed: {', '.join(TYPES.values())}, also `| None`",
            hint="rules go into Annotated[float, hr.Range(min=0)]",
        )  # fmt: skip
    rules = tuple(e for e in extras if isinstance(e, Range | OneOf | Pattern | NotNull))
    personal = next((e for e in extras if isinstance(e, Personal)), None)
    read = next((e for e in extras if isinstance(e, From)), None)
    return Field(name, TYPES[hint], nullable, rules, personal, read, _default(name, TYPES[hint], nullable, cls, where))


def _default(name: str, kind: FieldType, nullable: bool, cls: type, where: str) -> Any:
    """What the class says the field is where an event has none; None for nothing."""
    default = vars(cls).get(name)
    types_ = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}.get(kind, ())
    if default is None:
        return None
    if nullable or type(default) not in types_:
        raise InvalidSystem(
            f"{where}: `{cls.__name__}.{name}` has the default `{default!r}`; allowed: a value of its type, for a field "
            "that is an int, float, str or bool and never null",
            hint="remove the default, or `| None`",
        )
    return float(default) if kind == "float" else default
