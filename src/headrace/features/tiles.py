"""Adding tile by tile: the aggregates of slices that begin where a tile begins, from those of whole tiles.

A view with `resolution` r begins its windows at a multiple of r (Chronon's sawtooth), and its events fall into tiles
(k r, (k + 1) r]. A slice is then a run of whole tiles and a head, the part of its last tile that is in it. Its sum is the
sum, in their order, of the sums of these; its squared deviations from the mean M are the sum of
`S_k + n_k (M_k - M)**2` over them, with the squared deviations S_k, numbers n_k and means M_k of each. So an asking point costs
as many additions as it has tiles and head events, and its result depends only on its events, as without tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from headrace.features.reduceat import chunks, expand, reduce_slices, squared_deviations, sums

Terms = Callable[[np.ndarray, slice, np.ndarray], np.ndarray]
"""What to add for tiles: by their numbers, the run of slices that they are of, and how many are of each."""


def tile_runs(rows: np.ndarray, time: np.ndarray, resolution: int) -> np.ndarray:
    """int64 [n]: the tile of each event, numbered in their order; another row (key or asking point) is another tile."""
    tile = (time - 1) // resolution
    new = np.zeros(len(time), np.int64)
    new[1:] = (tile[1:] != tile[:-1]) | (rows[1:] != rows[:-1])
    return np.cumsum(new)


class Tiles:
    """The tiles of the non-null values of a column; `runs` int64 [n] tells which values are of one tile."""

    def __init__(self, values: np.ndarray, runs: np.ndarray) -> None:
        new = np.ones(len(runs), bool)
        np.not_equal(runs[1:], runs[:-1], out=new[1:])
        self._values = values
        self._bounds = np.append(np.flatnonzero(new), len(runs))
        self._tile = np.cumsum(new) - 1

    def reduce(self, kind: str, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """`sum`, `mean`, `std`, `min` or `max` of each slice; arbitrary for empty ones, and for `std` of one value."""
        result = np.zeros(len(starts), self._values.dtype if kind in ("min", "max") else np.float64)
        rows = np.flatnonzero(ends > starts)
        if not len(rows):
            return result
        slices = _Slices(self._tile[starts[rows]], self._tile[ends[rows] - 1], self._bounds, ends[rows])
        result[rows] = self._reduce(kind, slices, (ends - starts)[rows])
        return result

    def _reduce(self, kind: str, slices: _Slices, count: np.ndarray) -> np.ndarray:
        if kind in ("min", "max"):
            ufunc = np.minimum if kind == "min" else np.maximum
            whole = reduce_slices(ufunc, self._values, self._bounds[:-1], self._bounds[1:])
            heads = reduce_slices(ufunc, self._values, slices.heads, slices.ends)
            return slices.combined(ufunc, lambda index, run, size: whole[index], heads)
        heads = sums(self._floats, slices.heads, slices.ends)
        total = slices.combined(np.add, lambda index, run, size: self._sums[index], heads)
        if kind == "sum":
            return total
        mean = total / count
        return mean if kind == "mean" else self._deviations(slices, heads, mean, count)

    def _deviations(self, slices: _Slices, heads: np.ndarray, mean: np.ndarray, count: np.ndarray) -> np.ndarray:
        sizes = slices.ends - slices.heads
        means = heads / sizes
        squares = squared_deviations(self._floats, slices.heads, slices.ends, means)
        whole_sizes = np.diff(self._bounds)
        whole_means = self._sums / whole_sizes

        def around(index: np.ndarray, run: slice, size: np.ndarray) -> np.ndarray:
            apart: np.ndarray = whole_means[index] - np.repeat(mean[run], size)
            terms: np.ndarray = self._squares[index] + whole_sizes[index] * (apart * apart)
            return terms

        apart = means - mean
        total = slices.combined(np.add, around, squares + sizes * (apart * apart))
        deviations: np.ndarray = np.sqrt(total / np.maximum(count - 1, 1))
        return deviations

    @cached_property
    def _floats(self) -> np.ndarray:
        return self._values.astype(np.float64, copy=False)

    @cached_property
    def _sums(self) -> np.ndarray:
        return sums(self._floats, self._bounds[:-1], self._bounds[1:])

    @cached_property
    def _squares(self) -> np.ndarray:
        return squared_deviations(self._floats, self._bounds[:-1], self._bounds[1:], self._sums / np.diff(self._bounds))


class _Slices:
    """Slices that are not empty, as runs of whole tiles and the head of one, `[heads, ends)`."""

    def __init__(self, first: np.ndarray, last: np.ndarray, bounds: np.ndarray, ends: np.ndarray) -> None:
        self.heads, self.ends = bounds[last], ends
        self._first, self._lengths = first, last - first + 1

    def combined(self, ufunc: np.ufunc, whole: Terms, heads: np.ndarray) -> np.ndarray:
        """`ufunc` over what `whole` gives of the whole tiles, then that of the head."""
        result = np.empty(len(self.ends), heads.dtype)
        for run in chunks(self._lengths):
            size = self._lengths[run]
            terms = whole(expand(self._first[run], size), run, size)
            stops = np.cumsum(size)
            terms[stops - 1] = heads[run]
            result[run] = ufunc.reduceat(terms, stops - size)
        return result
