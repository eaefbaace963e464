"""The values of features as an application is given them, each of its declared type where that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

from headrace.data.types import FieldType, StreamSpec
from headrace.features.column_types import column_types
from headrace.features.types import FeatureRow, FeatureSet, RequestField, StoredView
from headrace.kernel.specs import Specs
from headrace.kernel.times import format_time

Value = bool | int | float | str | None


EXACT = 1 << 53
"""From here on float64, which a model takes, does not hold every integer."""


def _integer(value: float) -> Value:
    return int(value) if -EXACT < value < EXACT else value


def _time(micros: float) -> str:
    return format_time(int(micros))


_MADE: dict[FieldType, Callable[[float], Value]] = {"int": _integer, "bool": bool, "datetime": _time}


class GivenValues:
    """Makes the values of `features.given`: counts and integers below 2**53 `int`, flags `bool`, times and texts `str`, None
    for null. All else, so also what functions make, is `float`, NaN for null, which JSON writes as null. `fields` are the types
    of the fields of a request."""

    def __init__(self, features: FeatureSet, specs: Specs, fields: Mapping[str, FieldType]) -> None:
        kinds: dict[str, FieldType] = {}
        for source in features.sources:
            if isinstance(source, StoredView):
                kinds |= column_types(source, specs.get(StreamSpec, source.stream))
            elif isinstance(source, RequestField):
                kinds[source.name] = fields[source.name]
        made = [_MADE.get(kinds.get(name, "float")) for name in features.columns]
        self._made = [(place, make) for place, make in enumerate(made) if make is not None]
        matrix = set(features.columns)
        self._texts = [(place, name) for place, name in enumerate(features.given) if name not in matrix]

    def of(self, rows: Sequence[FeatureRow]) -> list[list[Value]]:
        """The values of each row."""
        given: list[list[Any]] = [row.values.tolist() for row in rows]
        for place, make in self._made:
            for values in given:
                values[place] = None if isnan(values[place]) else make(values[place])
        for place, name in self._texts:
            for values, row in zip(given, rows, strict=True):
                values.insert(place, row.texts[name])
        return given
