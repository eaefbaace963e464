"""Tables as users have them: Polars, pandas, Arrow, or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from headrace.data.files import format_of, read_table, unreadable
from headrace.kernel.errors import InvalidInput


def as_frame(table: Any) -> pl.DataFrame:
    """A Polars, pandas or Arrow table, or the file at a path, as a frame."""
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, str | Path):
        return read_table(Path(table))
    if type(table).__module__.partition(".")[0] == "pandas":
        return pl.DataFrame([_from_pandas(str(name), table[name]) for name in table.columns])
    return pl.DataFrame(table)


class ColumnsOf:
    """A table as `as_frame` takes it; the columns of a Parquet file are read when they are asked for.

    The file stays open, so that all of them come from one version of it. `head` is the table without rows.
    """

    def __init__(self, table: Any) -> None:
        self._file: BinaryIO | None = None
        if isinstance(table, str | Path) and format_of(Path(table)) == "parquet" and Path(table).suffix != ".gz":
            self._path = Path(table)
            self._file = self._path.open("rb")
            self.head = self._read(None, 0)
        else:
            self._frame = as_frame(table)
            self.head = self._frame.clear()

    def __enter__(self) -> ColumnsOf:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        return self._frame.select(names) if self._file is None else self._read(list(names), None)

    def _read(self, names: list[str] | None, rows: int | None) -> pl.DataFrame:
        assert self._file is not None
        self._file.seek(0)
        try:
            return pl.read_parquet(self._file, columns=names, n_rows=rows)
        except (PolarsError, OSError) as error:
            raise unreadable(self._path, "parquet", error) from None


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


def _no_time(texts: pl.Series) -> str:
    """The first of the texts that is no time; Polars takes the form of all from the first."""
    given = texts.drop_nulls()
    try:
        parsed = given.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    except PolarsError:
        return str(given[0])
    return str(given.filter(parsed.is_null())[0])


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
        try:
            column = column.str.to_datetime(time_unit="us", time_zone="UTC")
        except PolarsError:
            wrong = _no_time(column)
            raise InvalidInput(f"`{name}` of {where}: `{wrong}` is no time", hint="write 2026-01-31T12:00:00Z") from None
    if not isinstance(column.dtype, pl.Datetime):
        raise InvalidInput(f"`{name}` of {where} is {column.dtype}, no time", hint="convert it to a datetime")
    return column.dt.epoch("us")
