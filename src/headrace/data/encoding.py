"""Rows as JSON events, a column at a time: values that are not of the declared type stay as they are, for the contract
to refuse."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from headrace.data.frames import time_micros
from headrace.data.types import Field

_INTEGER = r"^[+-]?\d{1,19}$"
_EPOCH = r"^[+-]?\d{1,18}$"
_NEEDS_ESCAPE = r'[\\"\x00-\x1f]'
_INFINITE = {"inf": "Infinity", "-inf": "-Infinity"}
"""As the parser spells them that names the field at fault."""
_BOOLS = {"true": "true", "false": "false", "True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}


def json_events(fields: Sequence[Field], frame: pl.DataFrame, *, textual: bool) -> list[bytes]:
    """`json_column` as a list."""
    return json_column(fields, frame, textual=textual).to_list()


def json_column(fields: Sequence[Field], frame: pl.DataFrame, *, textual: bool) -> pl.Series:
    """One JSON object (Binary) per row with the declared fields that `frame` has. `textual`: columns are cells of a CSV file,
    read by the declared types. Whole milliseconds are written as epoch milliseconds, other times as RFC 3339."""
    present = [field for field in fields if field.name in frame.columns]
    tokens = frame.select(_token(field, frame, textual).fill_null("null").alias(field.name) for field in present)
    parts: list[pl.Expr] = []
    for position, field in enumerate(present):
        name = msgspec.json.encode(field.name).decode()
        parts += [pl.lit(f"{',' if position else '{'}{name}:"), pl.col(field.name)]
    return tokens.select(pl.concat_str([*parts, pl.lit("}")]).cast(pl.Binary).alias("event")).to_series()


def _quoted(column: pl.Expr) -> pl.Expr:
    plain = pl.concat_str([pl.lit('"'), column, pl.lit('"')])
    escaped = column.map_elements(lambda text: msgspec.json.encode(text).decode(), return_dtype=pl.String)
    return pl.when(column.str.contains(_NEEDS_ESCAPE)).then(escaped).otherwise(plain)


def _token(field: Field, frame: pl.DataFrame, textual: bool) -> pl.Expr:
    dtype, column = frame.schema[field.name], pl.col(field.name)
    if field.type == "datetime" and (dtype.is_temporal() or dtype == pl.String):
        return _time_token(field.name, frame)
    if textual and dtype == pl.String:
        return _typed_cell(field, column)
    if dtype == pl.String:
        return _quoted(column)
    if dtype == pl.Boolean or dtype.is_integer():
        return column.cast(pl.String)
    if dtype.is_float():
        return column.cast(pl.String).replace(_INFINITE)
    if dtype == pl.Binary:
        return column.map_elements(_binary, return_dtype=pl.String)
    if dtype.is_decimal():
        return column.cast(pl.Float64).cast(pl.String)
    if dtype.is_temporal() or dtype in (pl.Categorical, pl.Enum):
        return _quoted(column.cast(pl.String))
    return column.map_elements(lambda value: msgspec.json.encode(value, enc_hook=_plain).decode(), return_dtype=pl.String)


def _plain(value: object) -> object:
    """What JSON has no type for: an array of a list column, or a text."""
    return value.to_list() if isinstance(value, pl.Series) else str(value)


def _binary(value: bytes) -> str:
    """UTF-8 is a text, as some writers of Parquet store it; other bytes are an object, which no field takes."""
    try:
        return msgspec.json.encode(value.decode()).decode()
    except UnicodeDecodeError:
        return msgspec.json.encode({"base64": value}).decode()


def _typed_cell(field: Field, column: pl.Expr) -> pl.Expr:
    if field.type == "int":
        typed = pl.when(column.str.contains(_INTEGER)).then(column.cast(pl.Int64, strict=False).cast(pl.String))
    elif field.type == "float":
        typed = pl.when(column.is_not_null()).then(column.cast(pl.Float64, strict=False).cast(pl.String))
    elif field.type == "bool":
        return pl.coalesce(column.replace_strict(_BOOLS, default=None, return_dtype=pl.String), _quoted(column))
    else:
        return _quoted(column)
    return pl.coalesce(typed, _quoted(column))


def _time_token(name: str, frame: pl.DataFrame) -> pl.Expr:
    micros = time_micros(frame, name)
    text = micros.cast(pl.Datetime("us")).dt.strftime('"%Y-%m-%dT%H:%M:%S.%6fZ"')
    token = pl.when(micros % 1000 == 0).then((micros // 1000).cast(pl.String)).otherwise(text)
    if frame.schema[name] != pl.String:
        return token
    column = pl.col(name)
    whole = pl.when(column.str.contains(_EPOCH)).then(column)
    return pl.coalesce(whole, token, _quoted(column))
