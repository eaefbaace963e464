"""What functions over arrays are given: the values of some requests, as backfill gives the columns of a frame.

A null makes an array of numbers float64, which may change what a function makes of the other rows. So rows are only
given together when the same of their values are null: each row is then what it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.data.types import FieldType

_NUMBERS: dict[str, type[np.generic]] = {"int": np.int64, "float": np.float64, "bool": np.bool_}
_INSTANT = np.dtype("datetime64[us]")
NO_TIME = np.iinfo(np.int64).min


def request_array(kind: FieldType, values: Sequence[Any]) -> np.ndarray:
    """The values of a field; numbers are all null or none is, but for floats."""
    if kind == "datetime":
        return np.array([NO_TIME if value is None else value for value in values], np.int64).view(_INSTANT)
    if kind == "str":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if kind == "float" or values[0] is None:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, _NUMBERS[kind])


def same_nulls(kinds: Mapping[str, FieldType], requests: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """The places of the requests, those together whose int and bool fields of `kinds` have the same nulls."""
    names = [name for name, kind in kinds.items() if kind in ("int", "bool")]
    if not names:
        yield list(range(len(requests)))
        return
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(tuple([request[name] is None for name in names]), []).append(place)
    yield from groups.values()
