"""An operation's parameters, read from its signature: the same list makes the command's options and the route's fields."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from headrace.kernel.errors import InvalidInput, NotFound, UsageError
from headrace.kernel.operation import Operation

Kind = Literal["str", "int", "float", "bool", "path", "list", "object"]
_KINDS: dict[Any, Kind] = {str: "str", int: "int", float: "float", bool: "bool", Path: "path"}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation. `kind` "list" is list[str]; "object" is a JSON object, which the command line reads
    from a file; "path" is a file of the caller and exists on the command line only."""

    name: str
    kind: Kind
    required: bool
    default: Any
    choices: tuple[str, ...] = ()

    @property
    def public(self) -> str:
        """The name that users write: `from_` is `from`, which Python keeps for itself."""
        return self.name.rstrip("_")

    @property
    def option(self) -> str:
        return "--" + self.public.replace("_", "-")


def _kind(hint: Any) -> tuple[Kind, tuple[str, ...]]:
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
    hints = get_type_hints(operation.function)
    found = []
    for parameter in list(inspect.signature(operation.function).parameters.values())[1:]:
        try:
            kind, choices = _kind(hints[parameter.name])
        except TypeError as error:
            raise TypeError(f"operation `{operation.name}`, argument `{parameter.name}`: {error}") from None
        required = parameter.default is inspect.Parameter.empty
        found.append(Parameter(parameter.name, kind, required, None if required else parameter.default, choices))
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
    """Arguments in the declared types (a StrEnum from its text). InvalidInput names a wrong, missing or extra one."""
    hints = get_type_hints(operation.function)
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
            values[name] = value if known[name].kind == "path" else msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            raise InvalidInput(f"`{name}`: {error}; given: `{value!r}`", hint="mend the value", field=name) from None
    return values
