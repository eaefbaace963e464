"""An operation's parameters, read from its signature: the same list makes the command's options and the route's fields."""

from __future__ import annotations

import inspect
import math
import reprlib
import types
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from headrace.kernel.errors import InvalidInput, NotFound, UsageError
from headrace.kernel.operation import Operation

Kind = Literal["str", "int", "float", "bool", "path", "list", "object"]
_KINDS: dict[Any, Kind] = {str: "str", int: "int", float: "float", bool: "bool", Path: "path"}
_LEAST, _MOST = -(2**63), 2**63 - 1
_DEEPEST = 64
"""Levels of a JSON object that is an argument."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation. `kind` "list" is list[str]; "object" is a JSON object, which the command line reads
    from a file; "path" is a file of the caller and exists on the command line only. `bounds` are JSON Schema's."""

    name: str
    kind: Kind
    required: bool
    default: Any
    choices: tuple[str, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()

    @property
    def public(self) -> str:
        """The name that users write: `from_` is `from`, which Python keeps for itself."""
        return self.name.rstrip("_")

    @property
    def option(self) -> str:
        return "--" + self.public.replace("_", "-")


def _bounds(hint: Any) -> tuple[tuple[str, float], ...]:
    """Those of `Annotated[int, Meta(ge=1, le=9)]`."""
    if get_origin(hint) is not Annotated:
        return ()
    found = [("minimum", meta.ge) for meta in get_args(hint)[1:]] + [("maximum", meta.le) for meta in get_args(hint)[1:]]
    return tuple((name, bound) for name, bound in found if bound is not None)


def _kind(hint: Any) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return _kind(members[0])
    if get_origin(hint) is Literal:
        return "str", tuple(str(choice) for choice in get_args(hint))
    if inspect.isclass(hint) and issubclass(hint, str) and hint is not str:  # a StrEnum
        return "str", tuple(str(choice) for choice in hint.__members__.values())  # type: ignore[attr-defined]
    if get_origin(hint) in (list, tuple):
        return "list", ()
    if get_origin(hint) is dict:
        return "object", ()
    if hint not in _KINDS:
        raise TypeError(f"{hint!r} is no type of an operation's argument")
    return _KINDS[hint], ()


@lru_cache(maxsize=512)
def parameters(operation: Operation) -> tuple[Parameter, ...]:
    """The keyword parameters after the Context, in order. TypeError names an operation with a type no shell can show."""
    hints = get_type_hints(operation.function, include_extras=True)
    found = []
    for parameter in list(inspect.signature(operation.function).parameters.values())[1:]:
        try:
            kind, choices = _kind(hints[parameter.name])
        except TypeError as error:
            raise TypeError(f"operation `{operation.name}`, argument `{parameter.name}`: {error}") from None
        required = parameter.default is inspect.Parameter.empty
        default, bounds = None if required else parameter.default, _bounds(hints[parameter.name])
        found.append(Parameter(parameter.name, kind, required, default, choices, bounds))
    return tuple(found)


def from_text(parameter: Parameter, text: str) -> Any:
    """The value that a user typed. UsageError says what is allowed."""
    allowed = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    try:
        if parameter.kind == "int":
            return int(text)
        if parameter.kind == "float":
            return float(text)
        if parameter.kind == "bool":
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
    except (ValueError, KeyError):
        raise UsageError(f"{parameter.option}=`{text}`; allowed: {allowed[parameter.kind]}", hint="mend the value") from None
    if parameter.kind == "object":
        return _object_of(parameter, Path(text))
    if parameter.choices and text not in parameter.choices:
        names = ", ".join(f"`{choice}`" for choice in parameter.choices)
        raise UsageError(f"{parameter.option}=`{text}`; allowed: {names}", hint="choose one of these")
    return Path(text) if parameter.kind == "path" else text


def _object_of(parameter: Parameter, path: Path) -> Any:
    if not path.is_file():
        raise NotFound(f"{parameter.option}: there is no file `{path}`", hint="name a file with a JSON object")
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidInput(f"`{path}` is not a JSON object: {error}", hint="mend the file", field=parameter.name) from None


def typed(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments in the declared types (a StrEnum from its text) and bounds, every number finite and of 64 bits.
    InvalidInput names a wrong, missing or extra one."""
    hints = get_type_hints(operation.function, include_extras=True)
    known = {parameter.name: parameter for parameter in parameters(operation)}
    extra = sorted(set(arguments) - set(known))
    if extra:
        raise InvalidInput(
            f"`{operation.name}` has no argument `{extra[0]}`; known: {', '.join(known) or 'none'}",
            hint="remove it or mend its name", field=extra[0],
        )  # fmt: skip
    missing = [name for name, parameter in known.items() if parameter.required and arguments.get(name) is None]
    if missing:
        raise InvalidInput(f"`{operation.name}` needs `{missing[0]}`", hint="give it a value", field=missing[0])
    values = {}
    for name, value in arguments.items():
        try:
            _check_numbers(value)
            values[name] = value if known[name].kind == "path" else msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            public = known[name].public
            text = f"`{public}`: {error}; given: `{shown(value)}`"
            raise InvalidInput(text, hint="mend the value", field=public) from None
    return values


def _check_numbers(value: Any) -> None:
    """ValidationError for a number in `value` that no store and no JSON can hold, and for nesting that no reader can."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise msgspec.ValidationError(f"it is nested more than {_DEEPEST} deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int) and not _LEAST <= item <= _MOST:
                raise msgspec.ValidationError("Expected an integer of 64 bits")
            elif isinstance(item, float) and not math.isfinite(item):
                raise msgspec.ValidationError("Expected a finite number")
        level, depth = below, depth + 1


def shown(value: Any) -> str:
    """The value as it stands in messages: shortened, however long or deep it is."""
    return _SHORT.repr(value)
