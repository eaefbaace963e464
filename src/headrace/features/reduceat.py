"""Reductions of slices `[start, end)` of one array, by `ufunc.reduceat`.

`numpy.add.reduceat` adds the first element to the pairwise sum of the rest of the slice, so its result depends only on
the slice's content in its order: one slice and a million slices, at any place of any array, give the same bits
(`tests/features/test_backfill_windows.py` holds it). That is lost when the input must be cast or copied through a buffer, so
every array here is contiguous and already of the dtype that is added; `.sum()` adds in another order and is never used.

A slice may be empty: `reduceat` returns an element for it, which the caller replaces.
Slices must come with starts that do not decrease, or be few: `reduceat` also adds up the gaps between them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 1 << 21
"""Elements that a reducer expands at once: bounds its memory to some tens of MiB."""


def expand(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The indices of all slices one after another: `[start, start + 1, ...]` of each."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    index: np.ndarray = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return index


def chunks(lengths: np.ndarray, limit: int = CHUNK) -> Iterator[slice]:
    """Runs of rows whose lengths add up to at most `limit`; a longer row is a run of its own."""
    ends = np.cumsum(lengths)
    row = 0
    while row < len(ends):
        done = int(ends[row - 1]) if row else 0
        stop = max(int(np.searchsorted(ends, done + limit, side="right")), row + 1)
        yield slice(row, stop)
        row = stop


def reduce_slices(ufunc: np.ufunc, values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """`ufunc` over each `values[start:end]`; `values` has a spare element. Empty slices give an arbitrary element."""
    bounds = np.empty(2 * len(starts), np.int64)
    bounds[0::2] = starts
    bounds[1::2] = ends
    return reduce_between(ufunc, values, bounds)


def reduce_between(ufunc: np.ufunc, values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """As `reduce_slices`, of the slices that `bounds` alternately begin and end."""
    result: np.ndarray = ufunc.reduceat(values, bounds)[0::2]
    return result


def sums(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Float64 sums in the one order of addition."""
    return reduce_slices(np.add, values, starts, ends)


def squared_deviations(values: np.ndarray, starts: np.ndarray, ends: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The sum of (value - mean)**2 of each slice, the second pass of the two-pass variance."""
    lengths = ends - starts
    rows = np.flatnonzero(lengths > 0)
    result = np.zeros(len(starts))
    for run in chunks(lengths[rows]):
        part = rows[run]
        size = lengths[part]
        deviations = values[expand(starts[part], size)] - np.repeat(means[part], size)
        result[part] = np.add.reduceat(deviations * deviations, np.cumsum(size) - size)
    return result
