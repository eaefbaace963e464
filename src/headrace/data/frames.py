"""The contract as Polars expressions over typed frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from headrace.data.checking import check_document, compiled
from headrace.data.types import Field, NotNull, OneOf, Range, Rule, Violation
from headrace.kernel.times import FIRST_TIME, LAST_TIME, MINUTE, SECOND

_PLAIN_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)?$"
_OFFSET = r"[+-]\d\d:?\d\d$"


def valid_rows(fields: Sequence[Field], frame: pl.DataFrame, limit: tuple[str, int] | None) -> np.ndarray:
    """bool[n]: the rows that fulfil the contract. `limit` is (time column, latest allowed microseconds)."""
    checks = [_valid(field, frame).alias(field.name) for field in fields]
    if limit is not None and limit[0] in frame.columns and _fits("datetime", frame.schema[limit[0]]):
        checks.append((time_micros(frame, limit[0]) <= limit[1]).fill_null(True).alias("_limit"))
    columns = frame.with_row_index("_row").select("_row", *checks).drop("_row")
    valid: np.ndarray = np.logical_and.reduce([column.to_numpy() for column in columns])
    return valid


def physical(values: pl.Series) -> pl.Series:
    """As `to_physical`, of a column of a declared type; without a query of its own, which costs more than 100 values."""
    return values.cast(pl.Int64) if values.dtype == pl.Datetime else values


def conform(fields: Sequence[Field], schema: Mapping[str, pl.DataType], frame: pl.DataFrame) -> pl.DataFrame:
    """The declared columns in their declared types; missing ones are null, or the default."""
    columns = []
    for field in fields:
        if field.name not in frame.columns:
            column = pl.lit(field.default)
        else:
            column = time_micros(frame, field.name) if field.type == "datetime" else pl.col(field.name)
        columns.append(column.cast(schema[field.name]).alias(field.name))
    return frame.with_columns(columns).select(field.name for field in fields)


def _fits(kind: str, dtype: pl.DataType) -> bool:
    if kind == "int":
        return dtype.is_integer()
    if kind == "float":
        return dtype.is_numeric()
    if kind == "datetime":
        return dtype in (pl.Date, pl.Datetime) or dtype.is_integer() or dtype == pl.String
    return dtype == {"str": pl.String, "bool": pl.Boolean}[kind]


def time_micros(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Int64 microseconds of a time column: a datetime, a date, epoch milliseconds or RFC 3339 text; null for no time."""
    column, dtype = pl.col(name), frame.schema[name]
    if dtype.is_integer():
        return pl.when(column.is_between(FIRST_TIME // 1000, LAST_TIME // 1000)).then(
            column.cast(pl.Int64, strict=False) * 1000
        )
    if dtype == pl.String:
        at = frame.select(_plain_micros(frame[name])).to_series()  # (once: what is returned may be evaluated several times)
        fast = frame.select(pl.when(at.is_between(FIRST_TIME, LAST_TIME)).then(at).alias(name)).to_series()
        field = Field(name, "datetime")
        others = frame[name].filter(fast.is_null()).drop_nulls().unique().to_list()
        if not others:
            return pl.lit(fast)
        checked = ((text, check_document((field,), {name: text})) for text in others)
        known = {text: values[name] for text, values in checked if not isinstance(values, Violation)}
        return pl.coalesce(pl.lit(fast), column.replace_strict(known, default=None, return_dtype=pl.Int64))
    return column.cast(pl.Datetime("us")).dt.epoch("us") if dtype == pl.Date else column.dt.epoch("us")


def _plain_micros(texts: pl.Series) -> pl.Expr:
    """Int64 microseconds of the texts of the usual form, null for others."""
    column = pl.col(texts.name)
    zoned = column.str.contains(_OFFSET)
    ahead = pl.lit(0, pl.Int64)
    if texts.to_frame().select(zoned.any()).item():
        digits = pl.when(column.str.slice(-3, 1) == ":").then(column.str.slice(-6)).otherwise(column.str.slice(-5))
        minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + column.str.slice(-2).cast(pl.Int64, strict=False)
        signed = pl.when(digits.str.starts_with("-")).then(-minutes).otherwise(minutes)
        ahead = pl.when(zoned).then(signed * MINUTE).otherwise(0)
        column = pl.when(zoned).then(column.str.head(pl.col(texts.name).str.len_bytes() - digits.str.len_bytes()))
        column = column.otherwise(pl.col(texts.name))
    hour, minute, second = (column.str.slice(place, 2).cast(pl.Int64, strict=False) for place in (11, 14, 17))
    day = column.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.epoch("us")
    fraction = (column.str.slice(20).str.strip_suffix("Z") + "000000").str.slice(0, 6).cast(pl.Int64, strict=False)
    clock = ((hour * 60 + minute) * 60 + second) * SECOND + fraction
    plain = pl.col(texts.name).str.contains(_PLAIN_TIME) & (hour < 24) & (minute < 60)
    return pl.when(plain).then(day + clock - ahead)


def _valid(field: Field, frame: pl.DataFrame) -> pl.Expr:
    """A null is valid where it is allowed."""
    if field.name not in frame.columns:
        return pl.repeat(not field.required, pl.len())
    column, dtype = pl.col(field.name), frame.schema[field.name]
    absent = column.is_null() if field.nullable else pl.lit(False)
    if not _fits(field.type, dtype):
        return column.is_null() & absent
    if field.type == "datetime":
        good = time_micros(frame, field.name).is_not_null()
    elif field.type == "int":
        good = column.cast(pl.Int64, strict=False).is_not_null()
    elif field.type == "float":
        good = column.cast(pl.Float64).is_finite()
    else:
        good = column.is_not_null()
    for rule in field.rules:
        good = good & rule_holds(rule, frame[field.name])
    return good.fill_null(False) | absent


def rule_holds(rule: Rule, series: pl.Series) -> pl.Expr:
    """Whether the rule holds for each value of the column; null where it is null."""
    column = pl.col(series.name)
    if isinstance(rule, Range):
        low = column >= rule.min if rule.min is not None else pl.lit(True)
        return low & (column <= rule.max) if rule.max is not None else low
    if isinstance(rule, OneOf):
        return column.is_in(list(rule.values))
    if isinstance(rule, NotNull):
        return column.is_not_null()
    texts = series.drop_nulls().unique().to_list()
    return column.is_in([text for text in texts if compiled(rule.regex).match(text)])
