"""Rules over several fields of an event, and rules that only warn: the same answer for one event and for a frame of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from headrace.data.frames import rule_holds
from headrace.data.types import Check, Field, FieldType, NotNull, OneOf, Pattern, Range, Rule, Severity, Violation

_DTYPES: dict[FieldType, str] = {
    "int": "int64", "float": "float64", "str": "object", "bool": "bool", "datetime": "datetime64[us]",
}  # fmt: skip
_NAMES: dict[type[Rule], str] = {Range: "range", OneOf: "set", Pattern: "pattern", NotNull: "null"}
"""The kind of a rule in results."""


def with_severity(fields: Sequence[Field], severity: Severity) -> list[tuple[Field, Rule]]:
    """The rules of the fields that have this severity."""
    return [(field, rule) for field in fields for rule in field.rules if rule.severity == severity]


class RowChecks:
    """The custom checks of a stream. A check is a function over arrays of the fields that it names by its parameters; it
    sees no row in which one of them is null, and such rows pass."""

    def __init__(self, fields: Sequence[Field], checks: Sequence[Check]) -> None:
        self._dtypes = {field.name: _DTYPES[field.type] for field in fields}
        self._checks = [(check, tuple(inspect.signature(check.function).parameters)) for check in checks]

    def failing(self, frame: pl.DataFrame, severity: Severity) -> dict[str, np.ndarray]:
        """bool[n] per check of that severity: the rows of a typed frame that do not pass."""
        return {c.name: self._failing(c, names, frame) for c, names in self._checks if c.severity == severity}

    def refused(self, frame: pl.DataFrame) -> tuple[np.ndarray, list[Violation]]:
        """bool[n] of the rows that do not pass, and for each of them, in order, the first check that says so."""
        failing = self.failing(frame, "quarantine")
        bad = np.logical_or.reduce(list(failing.values())) if failing else np.zeros(frame.height, bool)
        found = []
        for row in np.flatnonzero(bad).tolist():
            name = next(name for name, rows in failing.items() if rows[row])
            names = next(names for check, names in self._checks if check.name == name)
            shown = ", ".join(f"{column}={frame[column][row]}" for column in names)[:200]
            found.append(Violation(names[0], f"check `{name}` does not hold", shown, name))
        return bad, found

    def _failing(self, check: Check, names: tuple[str, ...], frame: pl.DataFrame) -> np.ndarray:
        failing = np.zeros(frame.height, bool)
        whole = frame.select(pl.all_horizontal(pl.col(name).is_not_null() for name in names)).to_series().to_numpy()
        rows = np.flatnonzero(whole)
        if len(rows):
            columns = frame.select(names)[rows]
            arrays = {name: columns[name].to_physical().to_numpy().astype(self._dtypes[name]) for name in names}
            failing[rows] = ~_holds(check, arrays, len(rows))
        return failing


def _holds(check: Check, arrays: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """bool[rows]. When the function fails on the rows together it is asked for each, and those on which it fails do not
    pass: one event must not hold up a stream."""
    try:
        return _mask(check.function(**arrays), rows)
    except Exception:  # noqa: BLE001  (the user's function: whatever it raises, the event at fault goes to quarantine)
        found = np.zeros(rows, bool)
        if rows > 1:
            for row in range(rows):
                found[row] = _holds(check, {name: array[row : row + 1] for name, array in arrays.items()}, 1)[0]
        return found


def _mask(answer: Any, rows: int) -> np.ndarray:
    mask = np.asarray(answer)
    if mask.dtype != bool:
        raise TypeError(f"a check answers booleans, not {mask.dtype}")
    return np.broadcast_to(mask, (rows,))


def failing_rules(rules: Sequence[tuple[Field, Rule]], frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """bool[n] per rule, named `field.kind`: the rows of a typed frame in which it does not hold. A null fails only NotNull."""
    found = {}
    for field, rule in rules:
        if isinstance(rule, NotNull):
            failing = frame[field.name].is_null()
        else:
            held = frame.select(rule_holds(rule, frame[field.name]).fill_null(True)).to_series()
            failing = ~held if len(held) == frame.height else pl.Series([not held[0]] * frame.height, dtype=pl.Boolean)
        found[f"{field.name}.{_NAMES[type(rule)]}"] = failing.to_numpy()
    return found
