"""The contract of one document, field by field: the definition that the fast executions are held equal to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from headrace.data.json_fields import check_from
from headrace.data.types import Field, FieldType, NotNull, OneOf, Pattern, Range, Rule, Violation
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.times import FIRST_TIME, LAST_TIME, parse_time, to_micros

LOWEST, HIGHEST = -(2**63), 2**63 - 1
EXPECTED: dict[FieldType, str] = {
    "int": "expected an integer of 64 bits",
    "float": "expected a number",
    "str": "expected text",
    "bool": "expected true or false",
    "datetime": "expected an RFC 3339 time or epoch milliseconds, years 1 to 9999",
}
_ALLOWED: dict[type[Rule], tuple[FieldType, ...]] = {
    Range: ("int", "float"), OneOf: ("str", "int"), Pattern: ("str",), NotNull: ("int", "float", "str", "bool", "datetime"),
}  # fmt: skip
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SHOWN = 200


class _Refused(Exception):
    """A value that is not of the type; the message is the reason."""


@lru_cache(maxsize=1024)
def compiled(regex: str) -> re.Pattern[str]:
    """The pattern that the whole text must match."""
    return re.compile(rf"\A(?:{regex})\Z")


def check_rules(fields: Sequence[Field]) -> None:
    """InvalidSystem when a rule cannot hold for its field."""
    for field in fields:
        check_from(field)
        kinds = [(type(rule), rule.severity) for rule in field.rules]
        for rule in field.rules:
            if field.type not in _ALLOWED[type(rule)]:
                raise InvalidSystem(
                    f"field `{field.name}` of type `{field.type}` has the rule {rule}; allowed for it: "
                    f"{', '.join(k.__name__ for k, types in _ALLOWED.items() if field.type in types) or 'none'}",
                    hint="remove the rule or change the type",
                )
            if isinstance(rule, Range) and rule.min is not None and rule.max is not None and rule.min > rule.max:
                raise InvalidSystem(
                    f"field `{field.name}` has the rule {rule}, which no value meets", hint="exchange min and max"
                )
            if isinstance(rule, OneOf):
                kind = int if field.type == "int" else str
                if not rule.values or not all(type(value) is kind for value in rule.values):
                    raise InvalidSystem(f"field `{field.name}` of type `{field.type}` has the rule {rule}",
                                        hint=f"list at least one value, each of type {field.type}")  # fmt: skip
            if isinstance(rule, Pattern):
                try:
                    compiled(rule.regex)
                except re.error as error:
                    raise InvalidSystem(f"field `{field.name}` has the pattern `{rule.regex}`: {error}",
                                        hint="flags are written inside: `(?i:...)`") from None  # fmt: skip
        if len(set(kinds)) < len(kinds):
            raise InvalidSystem(f"field `{field.name}` has two rules of one kind and severity", hint="join them into one")


def shown(value: object) -> str:
    """The value as it stands in messages: JSON, shortened."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()[:_SHOWN]
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return repr(value)[:_SHOWN]


def _int(value: Any) -> int:
    if type(value) is not int or not LOWEST <= value <= HIGHEST:
        raise _Refused(EXPECTED["int"])
    return value


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise _Refused(EXPECTED["float"])
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Refused("not a finite number")
    return number


def _str(value: Any) -> str:
    if type(value) is not str:
        raise _Refused(EXPECTED["str"])
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _Refused(EXPECTED["bool"])
    return value


def _datetime(value: Any) -> int:
    micros = None
    if type(value) is int:
        micros = value * 1000
    elif type(value) is str:
        try:
            micros = parse_time(value) if _DATE.fullmatch(value) else to_micros(msgspec.convert(value, datetime))
        except (msgspec.ValidationError, ValueError):
            micros = None
    if micros is None or not FIRST_TIME <= micros <= LAST_TIME:
        raise _Refused(EXPECTED["datetime"])
    return micros


_CONVERT: dict[FieldType, Callable[[Any], Any]] = {
    "int": _int, "float": _float, "str": _str, "bool": _bool, "datetime": _datetime,
}  # fmt: skip


def _broken_rule(field: Field, value: Any) -> tuple[str, str] | None:
    """The reason and the kind of the first rule that does not hold."""
    for rule in field.rules:
        if isinstance(rule, Range):
            if rule.min is not None and value < rule.min:
                return f"below the minimum {rule.min}", "range"
            if rule.max is not None and value > rule.max:
                return f"above the maximum {rule.max}", "range"
        elif isinstance(rule, OneOf):
            if value not in rule.values:
                return f"not one of {', '.join(map(str, rule.values))}", "set"
        elif isinstance(rule, Pattern) and compiled(rule.regex).match(value) is None:
            return f"does not match the pattern {rule.regex}", "pattern"
    return None


def check_document(fields: Sequence[Field], document: Any, *, strict: bool = False) -> dict[str, Any] | Violation:
    """The typed values of a decoded JSON document, times in microseconds, or the first violation in field order. `strict`
    refuses unknown fields."""
    if not isinstance(document, Mapping):
        return Violation(None, "expected a JSON object", shown(document), "json")
    values: dict[str, Any] = {}
    for field in fields:
        value = document.get(field.name)
        if value is None:
            if field.name not in document and field.default is not None:
                values[field.name] = field.default
                continue
            if not field.nullable:
                return Violation(field.name, "is null" if field.name in document else "is missing", "", "null")
            values[field.name] = None
            continue
        try:
            typed = _CONVERT[field.type](value)
        except _Refused as refused:
            return Violation(field.name, str(refused), shown(value))
        broken = _broken_rule(field, typed)
        if broken is not None:
            return Violation(field.name, broken[0], shown(value), broken[1])
        values[field.name] = typed
    if strict:
        extra = next((name for name in document if name not in values), None)
        if extra is not None:
            return Violation(str(extra), f"unknown field; known: {', '.join(values)}", shown(document[extra]))
    return values
