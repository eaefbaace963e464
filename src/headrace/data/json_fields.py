"""Events as others write them: nested objects, arrays, times as numbers, numbers as texts, brought into the flat form that
the contract reads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headrace.data.types import Field, From
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.times import FIRST_TIME, LAST_TIME, SECOND, format_time

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNITS = {"s": SECOND, "ms": 1_000, "us": 1}
_PART = re.compile(r"([^.\[\]]+)(\[\d*\])?")
_NUMBER = re.compile(r"[+-]?(\d+)(\.\d+)?([eE][+-]?\d+)?")
_ABSENT = object()
_REPLACED, _NO_TEXT = "\ufffd".encode(), msgspec.Raw(b'"\xff"')
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def path_parts(path: str) -> list[str | int]:
    """`"order.items[].price"` -> `["order", "items", -1, "price"]`; -1 is each element of an array. ValueError for others."""
    parts: list[str | int] = []
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(path)
        parts.append(match[1])
        if match[2] is not None:
            parts.append(int(match[2][1:-1] or -1))
    return parts


def check_from(field: Field) -> None:
    """InvalidSystem when the field cannot be read so."""
    read = field.read
    if read is None:
        return
    try:
        arrays = [part for path in _paths(field, read) for part in path_parts(path) if part == -1]
    except ValueError as error:
        raise InvalidSystem(f"field `{field.name}` has the path `{error}`; allowed: names between dots, each with [] or [0]",
                            hint='hr.From("order.items[].price", aggregate="sum")') from None  # fmt: skip
    wrong = None
    if len(arrays) > 1 or bool(arrays) != (read.aggregate is not None):
        wrong = "a path with one [] and `aggregate` go together"
    elif read.epoch is not None and field.type != "datetime":
        wrong = "`epoch` is for datetime"
    elif read.text and field.type not in ("int", "float"):
        wrong = "`text` is for int and float"
    elif isinstance(read.path, tuple) and (field.type != "str" or read.aggregate is not None):
        wrong = "several paths make a str"
    elif read.aggregate not in (None, *_AGGREGATES):
        wrong = f"aggregate=`{read.aggregate}`; allowed: {', '.join(_AGGREGATES)}"
    elif read.epoch not in (None, *_UNITS):
        wrong = f"epoch=`{read.epoch}`; allowed: {', '.join(_UNITS)}"
    if wrong is not None:
        raise InvalidSystem(f"field `{field.name}` of type `{field.type}`: {wrong}", hint="mend hr.From(...)")


def flattener(fields: Sequence[Field]) -> Callable[[bytes], bytes] | None:
    """Turns an event into one whose members are the fields; None when no field asks for it. A member that stands at its
    field's own name already is read when the path leads nowhere. What is no JSON object stays as it is."""
    readers = [(f.name, _reader(f, f.read)) for f in fields if f.read is not None]
    if not readers:
        return None

    def flat(raw: bytes) -> bytes:
        try:
            document, readable = parsed(raw)
            if not isinstance(document, dict):
                return raw
            found = {name: value for name, read in readers if (value := read(readable)) is not _ABSENT}
            return msgspec.json.encode({**document, **found})
        except (*UNREADABLE, OverflowError):
            return raw

    return flat


def parsed(raw: bytes) -> tuple[Any, Any]:
    """What the JSON says, and of an object with members that no parser holds (`1e400`) those as they are written, and the
    others alone. UNREADABLE for what is no JSON."""
    try:
        document = msgspec.json.decode(raw)
    except UNREADABLE:
        written = _written(raw)
        return written, {name: found for name, value in written.items() for found in _readable(value)}
    return document, document


def _written(raw: bytes) -> dict[str, msgspec.Raw]:
    """As `members`, but a value that is no UTF-8 stays so, for the contract to refuse where it is a field's."""
    try:
        return _members(raw)
    except UnicodeDecodeError:  # (a name is no UTF-8)
        return {name: _NO_TEXT if _REPLACED in bytes(value) else value for name, value in members(raw).items()}


def _readable(value: msgspec.Raw) -> list[Any]:
    try:
        return [msgspec.json.decode(value)]
    except UNREADABLE:
        return []


def exploded(raw: bytes, path: str) -> list[bytes]:
    """One event for each element of the array at the dotted `path`, in order, with the element in the array's place and its
    number, from 0 on, as member `#`. An event that has no array there stays as it is; an empty array gives none."""
    *parents, last = path.split(".")
    try:
        document = msgspec.json.decode(raw)
    except UNREADABLE:
        return [raw]
    holder = document
    for name in parents:
        holder = holder.get(name) if isinstance(holder, dict) else None
    elements = holder.get(last) if isinstance(holder, dict) else None
    if not isinstance(elements, list):
        return [raw]
    events = []
    for place, element in enumerate(elements):
        holder[last] = {**element, "#": place} if isinstance(element, dict) else element
        events.append(msgspec.json.encode(document))
    return events


def unknown_members(raw: bytes, names: frozenset[str]) -> str | None:
    """The members of an event that no field is named after, as JSON; None when there are none. Their values stay as they are
    written, whether a parser could hold them (`1e400`) or not; bytes that are no UTF-8 become U+FFFD."""
    unknown = {name: value for name, value in members(raw).items() if name not in names}
    return msgspec.json.encode(unknown).decode() if unknown else None


def members(raw: bytes) -> dict[str, msgspec.Raw]:
    """The values of a JSON object as they are written."""
    return _members(raw.decode(errors="replace").encode())


def path_roots(field: Field) -> list[str]:
    """The members of an event in which the field's paths begin."""
    return [] if field.read is None else [str(path_parts(path)[0]) for path in _paths(field, field.read)]


def _paths(field: Field, read: From) -> tuple[str, ...]:
    if isinstance(read.path, tuple):
        return read.path
    return (read.path or field.name,)


def _reader(field: Field, read: From) -> Callable[[dict[str, Any]], Any]:
    paths = [path_parts(path) for path in _paths(field, read)]
    convert = _converter(field, read)
    if read.aggregate is not None:
        aggregate = _AGGREGATES[read.aggregate]
        (path,) = paths
        at = path.index(-1)

        def of_array(document: dict[str, Any]) -> Any:
            elements = _member(document, path[:at])
            if not isinstance(elements, list):
                return elements
            values = [convert(_member(element, path[at + 1 :])) for element in elements]
            present = [value for value in values if value is not None and value is not _ABSENT]
            try:
                return aggregate(present)
            except TypeError:  # (not all are numbers: the contract refuses the array)
                return present

        return of_array

    def of_paths(document: dict[str, Any]) -> Any:
        values = [_member(document, path) for path in paths]
        if len(values) == 1:
            return convert(values[0])
        return _ABSENT if any(v is _ABSENT or v is None for v in values) else "-".join(map(_as_text, values))

    return of_paths


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _member(value: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        if isinstance(part, str):
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        else:
            value = value[part] if isinstance(value, list) and part < len(value) else _ABSENT
        if value is _ABSENT:
            break
    return value


def _converter(field: Field, read: From) -> Callable[[Any], Any]:
    if read.epoch is not None:
        unit = _UNITS[read.epoch]
        return lambda value: _moment(value, unit, str(read.epoch))
    if read.text:
        return _whole if field.type == "int" else _decimal
    return lambda value: value


def _moment(value: Any, unit: int, name: str) -> Any:
    """RFC 3339; a number that is no time in this unit becomes a text that the contract refuses."""
    if type(value) is int:
        micros = value * unit
    elif type(value) is float:
        whole = math.floor(value)  # (apart, so that a fraction keeps its microseconds)
        micros = whole * unit + round((value - whole) * unit)
    else:
        return value
    return format_time(micros) if FIRST_TIME <= micros <= LAST_TIME else f"{value} {name}"


def _whole(value: Any) -> Any:
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return value if match is None or match[2] or match[3] or len(match[1]) > 18 else int(value)


def _decimal(value: Any) -> Any:
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None or not math.isfinite(float(value)):
        return value
    return float(value)


def _sum(values: list[Any]) -> Any:
    """Exact for numbers of any order: integers as such, others rounded once."""
    if any(type(value) not in (int, float) for value in values):
        raise TypeError
    return math.fsum(values) if any(type(value) is float for value in values) else sum(values)


_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": _sum,
    "mean": lambda values: _sum(values) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
}
