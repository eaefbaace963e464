"""Trying the functions of a system file on a few made-up rows while declaring, so that what fails on every row fails there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.data.types import Field, FieldType, OneOf, Range, StreamSpec
from headrace.features.arguments import argument_dtype, view_dtypes
from headrace.features.column_types import column_types
from headrace.features.types import StoredView
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.specs import Spec

ROWS = 5
"""Unlike the lengths that functions make up, so that `and` between arrays and a result of another length are seen."""
SAMPLES: dict[FieldType, Any] = {
    "int": np.arange(ROWS),
    "float": np.linspace(0.0, 1.0, ROWS),
    "str": np.array([str(n) for n in range(ROWS)], dtype=object),
    "bool": np.arange(ROWS) % 2 == 1,
    "datetime": np.datetime64("2026-01-01", "us") + np.arange(ROWS) * np.timedelta64(1, "D"),
}


def try_predicate(where: Callable[..., object], spec: StreamSpec, place: str) -> None:
    """InvalidSystem unless `where` takes fields of the stream by name and gives a boolean for each of a few rows."""
    if not callable(where):
        raise InvalidSystem(f"{place}: where={where!r} is not a function", hint="where=lambda amount: amount > 100")
    names = _inputs(where, place, "`where`")
    known = {field.name: field for field in spec.fields}
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InvalidSystem(f"{place}: `{spec.name}` has no field `{unknown}`; it has {', '.join(known)}",
                            hint="the parameters of `where` name fields of the stream")  # fmt: skip
    result = _called(where, {name: _sample(known[name]) for name in names}, place, "`where`")
    values = _array(result)
    if values is None or not _is_boolean(values) or values.shape not in ((), (ROWS,)):
        raise InvalidSystem(
            f"{place}: `where` gave {_told(result)} for {ROWS} rows, not a boolean for each",
            hint="compare arrays: `amount > 100`; combine with `&`, `|`, `~`: `(a > 1) & (b < 2)`; "
            "a `bool | None` is 1.0, 0.0 or NaN: `flag == 1`",
        )


def try_features(
    function: Callable[..., Any], declared: Iterable[Spec], made: Mapping[str, np.ndarray], place: str
) -> dict[str, np.ndarray]:
    """What the function gives for a few rows: of each parameter that of the feature of that name in `made`, else of the
    declared field, else float64. InvalidSystem unless the columns are numbers, one for each row."""
    name = f"features `{function.__name__}`"
    inputs = _inputs(function, place, name)
    known = {field.name: _sample(field) for spec in declared if isinstance(spec, StreamSpec) for field in spec.fields}
    known.update(made)
    arguments = {given: known[given] if given in known else SAMPLES["float"] for given in inputs}
    result = _called(function, arguments, place, name)
    if not isinstance(result, Mapping) or not result:
        raise InvalidSystem(f"{place}: {name} gave {_told(result)}, not a dict with columns",
                            hint='return a dict of arrays: `return {"half": amount / 2}`')  # fmt: skip
    columns = {}
    for column, given in result.items():
        if not isinstance(column, str) or not column.isidentifier() or column in inputs or column.startswith("_"):
            wrong = "which it reads" if column in inputs else "which is no name or begins with `_`"
            raise InvalidSystem(f"{place}: {name} gives the column {column!r}, {wrong}", hint="give the column another name")
        values = _array(given)
        if values is None or values.dtype.kind not in "biuf" or values.shape not in ((), (ROWS,)):
            raise InvalidSystem(
                f"{place}: {name} gave {_told(given)} as `{column}` for {ROWS} rows, not a number for each",
                hint="return arrays of numbers or booleans, as long as the arguments",
            )
        columns[column] = np.broadcast_to(values, ROWS).copy()
    return columns


def samples_of(view: StoredView, stream: StreamSpec) -> dict[str, np.ndarray]:
    """A few values of each column of the view, as functions get them."""
    kinds, dtypes = column_types(view, stream), view_dtypes(view, stream)
    return {name: SAMPLES[kind].astype(dtypes[name]) for name, kind in kinds.items()}


def _inputs(function: Callable[..., Any], place: str, name: str) -> Sequence[str]:
    parameters = inspect.signature(function).parameters.values()
    wrong = next((p for p in parameters if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)), None)
    if wrong is not None:
        raise InvalidSystem(f"{place}: {name} has the parameter `{wrong}`; columns are given by their names",
                            hint="write one parameter for each column that is read")  # fmt: skip
    return [p.name for p in parameters]


def _called(function: Callable[..., Any], arguments: Mapping[str, np.ndarray], place: str, name: str) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(**arguments)
    except Exception as error:
        raise InvalidSystem(
            f"{place}: {name} fails on sample rows: {error!r}",
            hint="columns are arrays: no `and`, `or`, `if` on them; use `&`, `|`, `~`, np.where; numbers and booleans "
            "that may be null are floats: `flag == 1`",
        ) from error


def _sample(field: Field) -> np.ndarray:
    """A few values of the field, which its rules allow, as functions get them; a pattern is not followed."""
    values: np.ndarray = SAMPLES[field.type].astype(argument_dtype(field.type, nullable=field.nullable))
    for rule in field.rules:
        if isinstance(rule, OneOf):
            values[:] = [rule.values[row % len(rule.values)] for row in range(ROWS)]
        elif isinstance(rule, Range):
            values = np.clip(values, rule.min, rule.max).astype(values.dtype)
    return values


def _array(value: object) -> np.ndarray | None:
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        return None


def _is_boolean(values: np.ndarray) -> bool:
    """Of booleans, or of what a `bool | None` is."""
    return values.dtype == np.bool_ or (values.dtype.kind == "f" and bool(np.isin(values, (0.0, 1.0)).all()))


def _told(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    return f"{value!r:.60}"
