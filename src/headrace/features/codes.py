"""Entity keys of frames as dense integer codes, the same for events and for asking points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

LARGEST = np.iinfo(np.int64).max
FEW = 4096
"""Of so many values NumPy finds the ranks before a query of Polars has begun."""


def _dense(events: pl.Series, asked: pl.Series) -> tuple[np.ndarray, int]:
    """Codes of both, one after the other, from 0 on, -1 for null, and the number of codes; integers of a small range are
    their own codes."""
    if events.dtype == pl.String:
        coded = [column.cast(pl.Categorical) for column in (events, asked)]  # (their codes agree while both are alive)
        events, asked = (column.to_physical() for column in coded)
    if events.dtype.is_integer():
        known = [int(edge) for column in (events, asked) for edge in (column.min(), column.max()) if edge is not None]  # type: ignore[arg-type]
        low, high = min(known, default=0), max(known, default=0)
        if high - low < 4 * (len(events) + len(asked)) + 1024 and high <= LARGEST:
            return _above(low, events, asked), high - low + 1
    return _ranked(pl.concat([events, asked]))


def _above(low: int, *columns: pl.Series) -> np.ndarray:
    """The integers of the columns, one after another, less `low`; -1 for null. int64."""
    codes = np.empty(sum(map(len, columns)), np.int64)
    stop = 0
    for chunk in (chunk for column in columns for chunk in column.get_chunks()):
        part = codes[stop : stop + len(chunk)]
        stop += len(chunk)
        values = chunk.fill_null(low) if chunk.null_count() else chunk
        np.subtract(values.to_numpy(), low, out=part, dtype=np.int64, casting="unsafe")
        if chunk.null_count():
            part[chunk.is_null().to_numpy()] = -1
    return codes


def _ranked(values: pl.Series) -> tuple[np.ndarray, int]:
    if len(values) <= FEW and values.dtype.is_integer() and not values.null_count():
        distinct, codes = np.unique(values.to_numpy(), return_inverse=True)
        return codes, len(distinct)
    ranks = values.rank("dense").cast(pl.Int64) - 1
    return ranks.fill_null(-1).to_numpy(writable=True), int(ranks.max() or 0) + 1  # type: ignore[arg-type]


def key_codes(
    events: Sequence[pl.Series], asked: Sequence[pl.Series], length: int, asked_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of `length` events and of `asked_length` asking points by their key columns (none: one key for all).

    A key with a null part is no key: its code is -1, and it has no events.
    """
    count = length + asked_length
    if not events:
        return np.zeros(length, np.int64), np.zeros(asked_length, np.int64)
    codes, size = np.zeros(0, np.int64), 0
    for number, column in enumerate(events):
        part, parts = _dense(column, asked[number].cast(column.dtype) if asked_length else column.clear())
        if not number:
            codes, size = part, parts
            continue
        null = (codes < 0) | (part < 0)
        codes *= parts
        codes += part
        size *= parts
        if size > 4 * count + 1024:
            codes, size = _ranked(pl.Series(codes))
        codes[null] = -1
    return codes[:length], codes[length:]
