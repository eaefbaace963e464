"""Evaluating one window view for one request alone: the reducers of `features/reduceat.py` over its slice, and plain numbers
where arrays would hold one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import truediv
from typing import Any

import numpy as np

from headrace.features.reduceat import reduce_between
from headrace.features.reducers import fill_empty
from headrace.features.report_index import reported_time
from headrace.features.slices import Window
from headrace.features.state import StateLayout
from headrace.features.types import Aggregate, WindowView

_INTEGER, _FLOAT = np.dtype(np.int64), np.dtype(np.float64)
_UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}


class SingleRequest:
    """Counts and shares, and sums, means, least and most values of floats: what most views have."""

    def __init__(self, layout: StateLayout, view: WindowView) -> None:
        self._words = layout.words
        self._plan = [(a.kind, a.column, self._over_none(a)) for _, a in view.aggregates]
        self._resolution = view.resolution
        self._nullable = {name for name in view.source_columns if layout.field(name).nullable}

    @staticmethod
    def covers(layout: StateLayout, view: WindowView) -> bool:
        """Whether the view has nothing else, and no stored events that its windows leave out."""
        kinds = [a.kind in ("count", "share") or (a.kind in _UFUNCS and layout.field(a.column).type == "float")
                 for _, a in view.aggregates]  # fmt: skip
        return all(kinds) and not layout.keeps_filtered

    @staticmethod
    def _over_none(aggregate: Aggregate) -> float:
        """The value over no events, by the rule of all executions."""
        any_value = np.zeros(1, _INTEGER if aggregate.kind == "count" else _FLOAT)
        values, defined = fill_empty(aggregate, any_value, np.zeros(1, _INTEGER))
        return float(values[0]) if defined is None or defined[0] else float("nan")

    def read(self, window: Window, request: Mapping[str, Any], at: int, report: bytes | None) -> list[float] | None:
        """The columns of the view, None where nulls are among the values, which this does not leave out. `report` is the
        report entry of the added event."""
        low = min(window.starts)
        starts = [start - low for start in window.starts]
        stop = window.end - low + window.added
        counts = [stop - start for start in starts]
        divisors = [count or 1 for count in counts]
        bounds: np.ndarray | None = None
        tiles: np.ndarray | None = None
        given: dict[str, np.ndarray] = {}
        columns: list[Sequence[float]] = []
        for kind, name, empty in self._plan:
            found: Sequence[float] = counts
            if kind == "share":
                reported = self._reported(window, low, starts, reported_time(report) <= at, at)
                found = list(map(truediv, reported, divisors))
            elif name is not None:
                if name not in given:
                    given[name] = self._values(window, low, name, request)
                    if name in self._nullable and np.isnan(given[name]).any():
                        return None
                if bounds is None:
                    bounds = np.array([bound for start in starts for bound in (start, stop)], _INTEGER)
                    tiles = self._tiles(window, low, at) if self._resolution and stop else None
                ufunc = _UFUNCS[kind]
                if tiles is None or ufunc is not np.add:
                    found = reduce_between(ufunc, given[name], bounds).tolist()
                else:
                    found = _tiled_sums(given[name], tiles, starts)
                if kind == "mean":
                    found = list(map(truediv, found, divisors))
            if 0 in counts:
                found = [value if count else empty for value, count in zip(found, counts, strict=True)]
            columns.append(found)
        return list(chain.from_iterable(zip(*columns, strict=True)))

    def _tiles(self, window: Window, low: int, at: int) -> np.ndarray:
        """Where the tiles of the events from `low` on begin, the added one among them."""
        times = window.words[low : window.end]
        if window.added:
            times = np.append(times, at)
        width = self._resolution
        first, last = (times.item(0) - 1) // width, (times.item(-1) - 1) // width
        if last - first < len(times):
            found: np.ndarray = times.searchsorted(np.arange(first, last + 1) * width, "right")
            return found.compress(np.append(found[1:] > found[:-1], True))
        tile = (times - 1) // width
        return np.flatnonzero(np.append(True, tile[1:] != tile[:-1]))

    def _values(self, window: Window, low: int, name: str, request: Mapping[str, Any]) -> np.ndarray:
        """A column of the events from `low` on, that of the added one, and the spare element of the reducers."""
        first, size = self._words[f"value {name}"] * window.size, window.end - low
        values = np.empty(size + window.added + 1)
        values[-1] = 0.0
        values[:size] = window.words[first + low : first + window.end].view(_FLOAT)
        if window.added:
            own = request[name]
            values[size] = np.nan if own is None else own + 0.0
        return values

    def _reported(self, window: Window, low: int, starts: Sequence[int], own: bool, at: int) -> list[int]:
        """How many events of each window have been reported by the asking time; `own`: the asking event, if added, has."""
        first = self._words["reported"] * window.size
        known = (window.words[first + low : first + window.end] <= at).tobytes()
        added = window.added and own
        return [known.count(1, start) + added for start in starts]


def _tiled_sums(values: np.ndarray, tiles: np.ndarray, starts: Sequence[int]) -> list[float]:
    """The sums of the sums of tiles from each of `starts` on, which begins a tile or is the end: as `tiles.py` adds them."""
    of_tiles = np.zeros(len(tiles) + 1)
    np.add.reduceat(values[:-1], tiles, out=of_tiles[:-1])
    bounds = np.full(2 * len(starts), len(tiles), _INTEGER)
    bounds[0::2] = tiles.searchsorted(starts)
    sums: list[float] = reduce_between(np.add, of_tiles, bounds).tolist()
    return sums
