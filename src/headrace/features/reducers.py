"""Reducers over slices `[start, end)` of one column of events, by `ufunc.reduceat`.

`numpy.add.reduceat` adds the first element to the pairwise sum of the rest of the slice, so its result depends only on
the slice's content in its order: one slice and a million slices, at any place of any array, give the same bits
(`tests/features/test_reducers.py` holds it). That is lost when the input must be cast or copied through a buffer, so
every array here is contiguous and already of the dtype that is added; `.sum()` adds in another order and is never used.

A slice may be empty: `reduceat` returns an element for it, which `fill_empty` replaces.
Slices must come with starts that do not decrease, or be few: `reduceat` also adds up the gaps between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.features.hyperloglog import DISTINCT_BOUND, estimate, registers
from headrace.features.types import Aggregate, AggregateKind
from headrace.features.words import array_words

Values = tuple[np.ndarray, np.ndarray | None]
"""The values of one output column and where they are defined (None: everywhere)."""
CHUNK = 1 << 21
"""Elements that a reducer expands at once: bounds its memory to some tens of MiB."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of events: `values` float64, int64 or bool [n]; `valid` bool [n], None when there is no null; `words`
    int64 [n] what `distinct` counts (`features/words.py`), None when that is the words of the values."""

    values: np.ndarray
    valid: np.ndarray | None = None
    words: np.ndarray | None = None

    def take(self, index: np.ndarray) -> Column:
        valid = None if self.valid is None else self.valid[index]
        return Column(self.values[index], valid, None if self.words is None else self.words[index])


@dataclass(frozen=True, slots=True)
class Dense:
    """The non-null values of a column and one spare element, so that a slice may end at the last event.

    `before` int64 [n + 1] counts the non-null events before each event; None when every event has a value.
    """

    values: np.ndarray
    before: np.ndarray | None
    words: np.ndarray | None = None

    @classmethod
    def of(cls, column: Column) -> Dense:
        values, words = column.values, column.words
        before = None
        if column.valid is not None:
            before = np.zeros(len(values) + 1, np.int64)
            np.cumsum(column.valid, out=before[1:])
            values, words = values[column.valid], None if words is None else words[column.valid]
        spare = np.zeros(len(values) + 1, values.dtype)
        spare[:-1] = values
        return cls(spare, before, words)

    def slices(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (starts, ends) if self.before is None else (self.before[starts], self.before[ends])


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


def standard_deviations(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Standard deviations with n - 1; arbitrary for n < 2."""
    count = ends - starts
    defined = count >= 2
    means = sums(values, starts, ends) / np.maximum(count, 1)
    starts, ends = np.where(defined, starts, 0), np.where(defined, ends, 0)
    deviations: np.ndarray = np.sqrt(squared_deviations(values, starts, ends, means) / np.maximum(count - 1, 1))
    return deviations


def distinct_counts(values: np.ndarray, starts: np.ndarray, ends: np.ndarray, words: np.ndarray | None = None) -> np.ndarray:
    """The number of different values in each slice, int64: exact up to DISTINCT_BOUND, then estimated from their words.

    A value is new where its last occurrence is before the slice.
    """
    _, codes = np.unique(values, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    previous = np.full(len(values), -1, np.int64)
    again = codes[order[1:]] == codes[order[:-1]]
    previous[order[1:][again]] = order[:-1][again]
    lengths = ends - starts
    rows = np.flatnonzero(lengths > 0)
    result = np.zeros(len(starts), np.int64)
    for run in chunks(lengths[rows]):
        part = rows[run]
        size = lengths[part]
        is_new = previous[expand(starts[part], size)] < np.repeat(starts[part], size)
        result[part] = np.add.reduceat(is_new.astype(np.int64), np.cumsum(size) - size)
    many = np.flatnonzero(result > DISTINCT_BOUND)
    if len(many):
        words = array_words(values) if words is None else words
        for row in many.tolist():
            result[row] = estimate(registers(words[starts[row] : ends[row]]))
    return result


def reduce_column(kind: AggregateKind, dense: Dense, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One aggregate of a column over each slice of events, and the number of values it is of; arbitrary without any."""
    starts, ends = dense.slices(starts, ends)
    values = dense.values
    count = ends - starts
    if kind == "distinct":
        return distinct_counts(values[:-1], starts, ends, dense.words), count
    if kind == "first":
        return values[starts], count
    if kind == "last":
        return values[ends - 1], count
    if kind in ("min", "max"):
        return reduce_slices(np.minimum if kind == "min" else np.maximum, values, starts, ends), count
    values = values.astype(np.float64, copy=False)
    if kind == "std":
        return standard_deviations(values, starts, ends), count
    total = sums(values, starts, ends)
    return total / np.maximum(count, 1) if kind == "mean" else total, count


def fill_empty(aggregate: Aggregate, values: np.ndarray, count: np.ndarray) -> Values:
    """The value over no events in its place: `empty`, else 0 for count, distinct, share and sum, else null."""
    defined = count >= (2 if aggregate.kind == "std" else 1)
    if bool(defined.all()):
        return values, None
    empty = aggregate.empty
    if empty is None and aggregate.kind in ("count", "distinct", "share", "sum"):
        empty = 0.0
    if empty is None:
        return values, defined
    none = count == 0
    return np.where(none, values.dtype.type(empty), values), (defined | none) if aggregate.kind == "std" else None
