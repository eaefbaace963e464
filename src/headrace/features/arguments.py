"""What functions over arrays are given. The type of an array follows from what is declared, never from the values in it, so
that a value is computed alike beside any others, online as in a backfill:

- text: object, None for null; datetime: datetime64[us], NaT for null
- int and bool of a field that cannot be null, and counts: int64 and bool
- all else, so also int and bool that may be null: float64, NaN for null. It does not hold every integer beyond 2**53.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from headrace.data.types import FieldType, StreamSpec
from headrace.features.column_types import column_types, output_aggregates
from headrace.features.types import FeatureSet, StoredView, WindowView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.specs import Specs

Dtype = np.dtype[Any]
_DTYPES: dict[FieldType, Dtype] = {
    "int": np.dtype(np.int64), "float": np.dtype(np.float64), "bool": np.dtype(np.bool_),
    "datetime": np.dtype("datetime64[us]"), "str": np.dtype(object),
}  # fmt: skip
FLOAT = _DTYPES["float"]
NO_TIME = np.iinfo(np.int64).min


def argument_dtype(kind: FieldType, *, nullable: bool) -> Dtype:
    """The type of the array of a field."""
    return FLOAT if nullable and kind in ("int", "bool") else _DTYPES[kind]


def view_dtypes(view: StoredView, stream: StreamSpec) -> dict[str, Dtype]:
    """The type of the array of each column of a view."""
    kinds = column_types(view, stream)
    aggregates = output_aggregates(view) if isinstance(view, WindowView) else []
    counts = {name for name, aggregate in aggregates if aggregate.kind in ("count", "distinct")}
    return {name: argument_dtype(kind, nullable=name not in counts) for name, kind in kinds.items()}


def field_dtypes(streams: Sequence[StreamSpec], asking: str | None) -> dict[str, Dtype]:
    """The type of the array of each field of requests. A field that may be null in any stream may be null; where its types
    differ, that of the stream `asking` counts."""
    found: dict[str, Dtype] = {}
    nullable = {field.name for stream in streams for field in stream.fields if field.nullable}
    for stream in sorted(streams, key=lambda stream: stream.name == asking):
        found |= {field.name: argument_dtype(field.type, nullable=field.name in nullable) for field in stream.fields}
    return found


def argument_dtypes(features: FeatureSet, specs: Specs, asking: str | None) -> dict[str, Dtype]:
    """The type of the array of all that functions may read but what they give each other; FLOAT for other names."""
    found = field_dtypes(specs.all(StreamSpec), asking)
    for view in features.views:
        found |= view_dtypes(view, specs.get(StreamSpec, view.stream))
    return found


def predicate_dtypes(view: StoredView, stream: StreamSpec) -> dict[str, Dtype]:
    """The type of the array of each field that the view's `where` takes."""
    if view.predicate is None:
        return {}
    fields = [stream.field(name) for name in inspect.signature(view.predicate).parameters]
    return {field.name: argument_dtype(field.type, nullable=field.nullable) for field in fields}


def array_of_values(name: str, values: Sequence[Any], dtype: Dtype) -> np.ndarray:
    """The array of the values of some requests. InvalidInput for a null where none can be."""
    if dtype.kind == "O":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if dtype.kind == "M":
        return np.array([NO_TIME if value is None else value for value in values], np.int64).view(dtype)
    if dtype.kind == "f":
        return np.array([np.nan if value is None else value for value in values], FLOAT)
    if None in values:
        raise _unexpected_null(name)
    return np.array(values, dtype)


def array_of_series(values: pl.Series, dtype: Dtype) -> np.ndarray:
    """As `array_of_values`, of a column."""
    if dtype.kind == "O":
        return values.to_numpy().astype(object)
    if dtype.kind == "M":
        return values.dt.replace_time_zone(None).cast(pl.Datetime("us")).to_numpy()
    if dtype.kind == "f":
        return values.cast(pl.Float64).to_numpy()
    if values.null_count():
        raise _unexpected_null(values.name)
    return values.cast(pl.Int64 if dtype.kind == "i" else pl.Boolean).to_numpy()


def _unexpected_null(name: str) -> InvalidInput:
    return InvalidInput(f"`{name}` is null, which its stream does not allow", hint="declare it with `| None`", field=name)


def kept(where: Callable[..., object], arrays: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """bool [rows]: the rows that `where` keeps; what it gives as NaN is not kept."""
    found = np.asarray(where(**arrays))
    if found.dtype.kind == "f":
        found = (found != 0) & ~np.isnan(found)
    return np.broadcast_to(found.astype(bool), rows)
