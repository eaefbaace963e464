"""What differs between two dataset versions: rows, schema, and the distribution of each column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.data.datasets import dataset, load
from headrace.engines.context import Context
from headrace.statistics.divergences import coarsened, psi
from headrace.statistics.histograms import bin_counts, quantile_edges

CATEGORIES = 20
"""Values of a text column that get a cell each in its PSI, the most frequent of both versions; the rest is one cell."""
_COUNT = "_count"


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column that the versions do not share; None where it is absent."""

    name: str
    type_a: str | None
    type_b: str | None


@dataclass(frozen=True, slots=True)
class ColumnCounts:
    """A shared column. `nulls` are null or NaN, `distinct` counts the other values; `psi` is about 0 for one distribution and
    from 0.25 on usually called a large shift."""

    name: str
    nulls_a: int
    nulls_b: int
    distinct_a: int
    distinct_b: int
    psi: float


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A shared column of numbers, without null and NaN; None when nothing else is there."""

    name: str
    min_a: float | None
    min_b: float | None
    max_a: float | None
    max_b: float | None
    mean_a: float | None
    mean_b: float | None


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """Rows are equal when all shared columns are, to the bit (NaN equals NaN), and each row is matched with one: `rows_both` +
    `rows_only_a` is the length of A. `same_content`: also the order of rows and columns is the same."""

    a: str
    b: str
    same_content: bool
    rows_only_a: int
    rows_only_b: int
    rows_both: int
    schema: list[TypeChange]
    columns: list[ColumnCounts]
    numbers: list[NumberRange]


def diff(ctx: Context, a: str, b: str) -> DatasetDiff:
    """Of `name@version` to another. NotFound for an unknown one, CheckFailed when the content of one has changed."""
    left, right = load(ctx, a), load(ctx, b)
    names = list(dict.fromkeys([*left.columns, *right.columns]))
    types = {name: (left.schema.get(name), right.schema.get(name)) for name in names}
    shared = [name for name, (one, other) in types.items() if one == other]
    both = _matched(left.select(shared), right.select(shared))
    return DatasetDiff(
        a,
        b,
        dataset(ctx, a).content_hash == dataset(ctx, b).content_hash,
        left.height - both,
        right.height - both,
        both,
        [TypeChange(name, _shown(one), _shown(other)) for name, (one, other) in types.items() if one != other],
        [_counts(left[name], right[name]) for name in shared],
        [_range(left[name], right[name]) for name in shared if left.schema[name].is_numeric()],
    )


def _shown(dtype: pl.DataType | None) -> str | None:
    return None if dtype is None else str(dtype)


def _bits(frame: pl.DataFrame) -> pl.DataFrame:
    """Floats as the integers of their bits, so that 0.0 is not -0.0; one NaN."""
    return pl.DataFrame([_float_bits(column) if column.dtype.is_float() else column for column in frame])


def _float_bits(column: pl.Series) -> pl.Series:
    values = column.cast(pl.Float64).fill_null(0.0).to_numpy()
    bits = pl.Series(column.name, np.where(np.isnan(values), np.nan, values).view(np.int64))
    return bits.set(column.is_null(), None)


def _matched(left: pl.DataFrame, right: pl.DataFrame) -> int:
    """How many rows of one find a partner in the other, each row once."""
    names = left.columns
    if not names:
        return 0
    counted = [_bits(frame).group_by(names).agg(pl.len().alias(_COUNT)) for frame in (left, right)]
    joined = counted[0].join(counted[1], on=names, nulls_equal=True)
    return int(joined.select(pl.min_horizontal(_COUNT, f"{_COUNT}_right").sum()).item())


def _known(column: pl.Series) -> pl.Series:
    """Without null and NaN."""
    known = column.drop_nulls()
    return known.drop_nans() if column.dtype.is_float() else known


def _counts(left: pl.Series, right: pl.Series) -> ColumnCounts:
    known = _known(left), _known(right)
    cells = _categories if left.dtype == pl.String else _bins
    return ColumnCounts(
        left.name,
        len(left) - len(known[0]),
        len(right) - len(known[1]),
        known[0].n_unique(),
        known[1].n_unique(),
        psi(*cells(left, right)),
    )


def _bins(left: pl.Series, right: pl.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """At most ten bins of about equal mass of A, and null: cut on both, so that what only B has is seen."""
    one, other = (column.to_physical().cast(pl.Float64).to_numpy() for column in (left, right))
    edges = quantile_edges(np.concatenate([one, other]))
    return coarsened(bin_counts(one, edges), bin_counts(other, edges))


def _categories(left: pl.Series, right: pl.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    counted = [pl.DataFrame({"value": c}).group_by("value").agg(pl.len().alias(_COUNT)) for c in (left, right)]
    cells = counted[0].join(counted[1], on="value", how="full", coalesce=True, nulls_equal=True).fill_null(0)
    cells = cells.select("value", one=_COUNT, other=f"{_COUNT}_right")
    cells = cells.sort(pl.col("one") + pl.col("other"), pl.col("value"), descending=True)
    pair = cells.select(pl.col("one", "other").cast(pl.Int64)).to_numpy()
    rest = pair[CATEGORIES:].sum(axis=0, keepdims=True)
    shown = np.concatenate([pair[:CATEGORIES], rest])
    return shown[:, 0], shown[:, 1]


def _range(left: pl.Series, right: pl.Series) -> NumberRange:
    values = [_extremes(_known(column)) for column in (left, right)]
    (low_a, high_a, mean_a), (low_b, high_b, mean_b) = values
    return NumberRange(left.name, low_a, low_b, high_a, high_b, mean_a, mean_b)


def _extremes(known: pl.Series) -> tuple[float | None, float | None, float | None]:
    if known.is_empty():
        return None, None, None
    values = known.cast(pl.Float64).to_numpy()
    with np.errstate(invalid="ignore"):  # (the mean of both infinities is none)
        return float(values.min()), float(values.max()), float(values.mean())
