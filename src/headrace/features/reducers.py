"""The aggregates of a column of events over slices `[start, end)` of them.

Everywhere a slice's result depends only on its content in its order (`features/reduceat.py`). With tiles, sums are those of
the tiles' sums (`features/tiles.py`). A slice may be empty: what it gives is arbitrary, and replaced by `fill_empty`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.features.hyperloglog import DISTINCT_BOUND, estimate, registers
from headrace.features.reduceat import chunks, expand, reduce_slices, squared_deviations, sums
from headrace.features.tiles import Tiles
from headrace.features.types import Aggregate, AggregateKind
from headrace.features.words import array_words

Values = tuple[np.ndarray, np.ndarray | None]
"""The values of one output column and where they are defined (None: everywhere)."""


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

    `before` int64 [n + 1] counts the non-null events before each event; None when every event has a value. `tiles`: what
    is added tile by tile, None for views without `resolution`.
    """

    values: np.ndarray
    before: np.ndarray | None
    words: np.ndarray | None = None
    tiles: Tiles | None = None

    @classmethod
    def of(cls, column: Column, runs: np.ndarray | None = None) -> Dense:
        """`runs` int64 [n]: the tile of each event, never decreasing."""
        values, words = column.values, column.words
        before = None
        if column.valid is not None:
            before = np.zeros(len(values) + 1, np.int64)
            np.cumsum(column.valid, out=before[1:])
            values, words = values[column.valid], None if words is None else words[column.valid]
            runs = None if runs is None else runs[column.valid]
        spare = np.zeros(len(values) + 1, values.dtype)
        spare[:-1] = values
        return cls(spare, before, words, None if runs is None else Tiles(spare, runs))

    def slices(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (starts, ends) if self.before is None else (self.before[starts], self.before[ends])


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
    if dense.tiles is not None:
        return dense.tiles.reduce(kind, starts, ends), count
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
    if values is count and empty == 0:
        return values, None
    none = count == 0
    return np.where(none, values.dtype.type(empty), values), (defined | none) if aggregate.kind == "std" else None
