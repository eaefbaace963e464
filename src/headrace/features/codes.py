"""Entity keys of frames as dense integer codes, the same for events and for asking points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


def _dense(values: pl.Series) -> tuple[np.ndarray, int]:
    """Codes from 0 on, -1 for null, and the number of codes; integers of a small range are their own codes."""
    if values.dtype.is_integer() and len(values) > values.null_count():
        nulls = values.null_count() > 0
        array = (values.fill_null(values.min()) if nulls else values).to_numpy().astype(np.int64, copy=False)
        low, high = int(array.min()), int(array.max())
        if high - low < 4 * len(values) + 1024:
            array = array - low
            return np.where(values.is_null().to_numpy(), -1, array) if nulls else array, high - low + 1
    if values.dtype == pl.String:
        values = values.cast(pl.Categorical).to_physical()
        return _dense(values.cast(pl.Int64))
    coded = values.rank("dense").cast(pl.Int64) - 1
    return coded.fill_null(-1).to_numpy(), int(coded.max() or 0) + 1  # type: ignore[arg-type]


def key_codes(
    events: Sequence[pl.Series], asked: Sequence[pl.Series], length: int, asked_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of `length` events and of `asked_length` asking points by their key columns (none: one key for all).

    A key with a null part is no key: its code is -1, and it has no events.
    """
    count = length + asked_length
    codes, size = np.zeros(count, np.int64), 1
    for number, column in enumerate(events):
        both = pl.concat([column, asked[number].cast(column.dtype)]) if asked_length else column
        part, parts = _dense(both)
        null = (codes < 0) | (part < 0)
        if size * parts > 4 * count + 1024 and size > 1:
            codes, size = _dense_array(codes * parts + part)
        else:
            codes, size = codes * parts + part, size * parts
        codes[null] = -1
    return codes[:length], codes[length:]


def _dense_array(codes: np.ndarray) -> tuple[np.ndarray, int]:
    return _dense(pl.Series(codes).rank("dense").cast(pl.Int64))
