"""Canonical 64-bit words of values: what the online state keeps of them, and what `distinct` counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headrace.kernel.ids import key_hash, text_hashes

ID_WORD = "_id_word"
FEW = 1024
"""Of so many texts each is hashed sooner than equal ones are found."""


def value_words(values: pl.Series) -> np.ndarray:
    """The values of a column as int64 words; the word of a null is arbitrary but for floats, where it is NaN.

    Integers and booleans are themselves, times microseconds, floats their bits (-0.0 as 0.0), texts 64 bits of BLAKE2b.
    """
    if values.dtype.is_float():
        return (values.cast(pl.Float64).to_numpy() + 0.0).view(np.int64)
    if values.dtype.is_integer() and not values.null_count():
        return values.to_numpy().astype(np.int64, copy=False)
    if values.dtype == pl.String:
        return _text_words(values)
    physical = values.to_physical()
    return (physical.fill_null(0) if physical.null_count() else physical).to_numpy().astype(np.int64, copy=False)


def with_id_words(events: pl.DataFrame, column: str) -> pl.DataFrame:
    """The events with the words of their ids: found once for all views of a batch."""
    return events.with_columns(pl.Series(ID_WORD, value_words(events[column]), dtype=pl.Int64))


def _text_words(values: pl.Series) -> np.ndarray:
    """0 for null."""
    texts = values.unique().drop_nulls() if len(values) > FEW else values
    if 2 * len(texts) < len(values):
        known = np.frombuffer(b"".join(text_hashes(texts.to_list())), "<i8")
        return values.replace_strict(texts, known, default=0, return_dtype=pl.Int64).to_numpy()
    if not values.null_count():
        return np.frombuffer(b"".join(text_hashes(values.to_list())), "<i8")
    words = np.zeros(len(values), np.int64)
    words[values.is_not_null().to_numpy()] = _text_words(values.drop_nulls())
    return words


def value_word(value: Any) -> int:
    """As `value_words`, of one value that is not a float."""
    return 0 if value is None else key_hash(value) if isinstance(value, str) else int(value)


def array_words(values: np.ndarray) -> np.ndarray:
    """The words of a column as the reducers hold it: float64 without NaN, int64 or bool."""
    if values.dtype == np.float64:
        return (values + 0.0).view(np.int64)
    return values.astype(np.int64, copy=False)
