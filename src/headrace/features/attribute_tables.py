"""Tables as users have them: Polars, pandas, Arrow, or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headrace.data.files import read_table
from headrace.kernel.errors import InvalidInput


def as_frame(table: Any, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A Polars, pandas or Arrow table, or the file at a path, as a frame; of a file only `columns`, if given."""
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, str | Path):
        if columns is not None and str(table).endswith(".parquet") and Path(table).is_file():
            lazy = pl.scan_parquet(table)
            present = lazy.collect_schema().names()
            return lazy.select(name for name in columns if name in present).collect()
        return read_table(Path(table))
    if type(table).__module__.partition(".")[0] == "pandas":
        return pl.DataFrame([_from_pandas(str(name), table[name]) for name in table.columns])
    return pl.DataFrame(table)


def _from_pandas(name: str, column: Any) -> pl.Series:
    """A pandas column without pyarrow: missing values are null, times keep their zone's instant."""
    missing = column.isna().to_numpy()
    kind = column.dtype.kind
    if kind == "M":
        instants = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        values = pl.Series(name, instants.to_numpy().astype("datetime64[us]")).dt.replace_time_zone("UTC")
    elif kind in "iufb" and not missing.any():
        return pl.Series(name, column.to_numpy(dtype=f"{kind}{column.dtype.itemsize}" if kind != "b" else bool))
    elif kind in "iufb":
        filled = column.to_numpy(dtype="float64", na_value=np.nan)
        number = pl.Series(name, filled).fill_nan(None)
        return number if kind == "f" else number.cast(pl.Boolean if kind == "b" else pl.Int64)
    else:
        return pl.Series(name, [None if gone else value for gone, value in zip(missing, column, strict=True)])
    return values.set(pl.Series(missing), None)


def micros(frame: pl.DataFrame, name: str, where: str) -> pl.Series:
    """A time column as int64 microseconds; naive times are UTC."""
    if name not in frame.columns:
        raise InvalidInput(
            f"{where} have no column `{name}`; they have {', '.join(frame.columns)}", hint="name the time column"
        )
    column = frame[name]
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if column.dtype == pl.String:
        column = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
    if not isinstance(column.dtype, pl.Datetime):
        raise InvalidInput(f"`{name}` of {where} is {column.dtype}, no time", hint="convert it to a datetime")
    return column.dt.epoch("us")
