"""The window kernel: the one place where windows are evaluated over arrays.

Events are ordered by (key, time, offset); the ends of each window are found by `searchsorted`; reducers run over the
slices (`features/reducers.py`). A slice holds the events of the key with t - w - delay < time <= t - delay that come
before the asking event in the order (time, offset). Where an event of that slice arrived after the asking position,
or the asking event itself must be added, the row takes the second path: its slice is gathered, masked by
`offset <= position`, compacted, and given to the same reducers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.features.reduceat import chunks, expand, reduce_slices
from headrace.features.reducers import Column, Dense, Values, fill_empty, reduce_column
from headrace.features.reported import ReportedEvents, Reports
from headrace.features.tiles import tile_runs
from headrace.features.timeline import ALWAYS, Asked, Timeline, order
from headrace.features.types import WindowView
from headrace.kernel.errors import InvalidSystem

BLOCK = 1 << 17
"""Asking points that are evaluated at once: their arrays stay in the processor's cache."""
MOST_ADDITIONS = 100_000_000_000
SAMPLE = 4096
"""Asking points from which the additions are estimated."""


def _before_own(timeline: Timeline, asked: Asked, ends: np.ndarray, own_event: bool) -> np.ndarray:
    """Ends of windows without delay: events of the same time and a later offset than the asking event's are cut off,
    and the asking event itself unless `own_event`."""
    events = timeline.events
    n = len(events.key)
    last = np.maximum(ends - 1, 0)
    if not n:
        return ends
    tied = (asked.own >= 0) & (ends > 0) & (events.key[last] == asked.key) & (events.time[last] == asked.time)
    beyond = np.flatnonzero(tied & (events.offset[last] > asked.own))
    if len(beyond):
        ends = ends.copy()
        low = timeline.after(asked.key[beyond], asked.time[beyond] - 1)
        high = ends[beyond]
        while bool(np.any(low < high)):
            middle = (low + high) >> 1
            earlier = (low < high) & (events.offset[np.minimum(middle, n - 1)] <= asked.own[beyond])
            high = np.where(earlier | (low >= high), high, middle)
            low = np.where(earlier, middle + 1, low)
        ends[beyond] = low
    if not own_event:
        last = np.maximum(ends - 1, 0)
        is_own = (asked.own >= 0) & (ends > 0) & (events.key[last] == asked.key) & (events.offset[last] == asked.own)
        ends = ends - is_own
    return ends


def _masked(view: WindowView, timeline: Timeline, asked: Asked, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Rows whose slice holds an event that arrived after the asking position: none when the asking event is the newest
    seen and no event of the key came late."""
    anyway = view.predicate is not None or timeline.events.arrived is not None
    candidates = (asked.position != asked.own) | (asked.own < 0) | anyway
    if len(timeline.late) and bool(timeline.late.any()):
        candidates |= timeline.late[np.clip(asked.key, 0, len(timeline.late) - 1)]
    rows = np.flatnonzero(candidates & (ends > starts))
    offset = timeline.events.arrival
    if not len(rows) or not len(offset):
        return rows[:0]
    spare = np.append(offset, -1)
    newest = reduce_slices(np.maximum, spare, starts[rows], ends[rows])
    return rows[newest > asked.position[rows]]


@dataclass(frozen=True)
class Prepared:
    """The columns and reports of events, ready for slices."""

    columns: Mapping[str, Dense]
    reported: ReportedEvents | None

    @classmethod
    def of(
        cls, view: WindowView, columns: Mapping[str, Column], reports: Reports | None, rows: np.ndarray, time: np.ndarray
    ) -> Prepared:
        """`rows` tells which events are of one slice or of one key, `time` int64 [n] are their times; columns may go on
        with events that are only gathered."""
        runs = None
        if view.resolution:
            runs = tile_runs(rows, time, view.resolution)
            longest = max((len(column.values) for column in columns.values()), default=len(runs))
            runs = np.append(runs, np.full(longest - len(runs), len(runs)))
        dense = {name: Dense.of(columns[name], runs) for name in view.source_columns}
        return cls(dense, None if reports is None else ReportedEvents(reports))


def reduce_view(
    view: WindowView, prepared: Prepared, asked: Asked, starts: Sequence[np.ndarray], ends: np.ndarray
) -> list[Values]:
    """Every output column over the slices `[starts[window], ends)` of the events."""
    results: list[Values] = []
    for first in starts:
        events = ends - first
        for _, aggregate in view.aggregates:
            values = count = events
            if aggregate.column is not None:
                values, count = reduce_column(aggregate.kind, prepared.columns[aggregate.column], first, ends)
            elif prepared.reported is not None and aggregate.kind == "share":
                values = prepared.reported.counts(asked.time, asked.reported, first, ends) / np.maximum(count, 1)
            results.append(fill_empty(aggregate, values, count))
    return results


def _reduce_gathered(
    view: WindowView, timeline: Timeline, asked: Asked, starts: Sequence[np.ndarray], ends: np.ndarray
) -> list[Values]:
    """The second path: the slices are gathered without what arrived later, and with the added asking events."""
    widest = np.minimum.reduce(starts)
    adds = asked.added >= 0
    lengths = ends - widest + adds
    stops = np.cumsum(lengths)
    index = expand(widest, lengths)
    row = np.repeat(np.arange(len(ends)), lengths)
    added = stops[adds] - 1
    index[added] = asked.added[adds]
    seen = np.ones(len(index), bool)
    time = asked.time[row]
    if len(timeline.events.arrival):
        seen = timeline.events.arrival.take(index, mode="clip") <= asked.position[row]
        seen[added] = True
        old = np.delete(np.arange(len(index)), added)
        time[old] = timeline.events.time[index[old]]
    before = np.zeros(len(index) + 1, np.int64)
    np.cumsum(seen, out=before[1:])
    index = index[seen]
    columns = {name: column.take(index) for name, column in timeline.events.columns.items()}
    reports = timeline.events.reports
    reports = None if reports is None else reports.take(index)
    prepared = Prepared.of(view, columns, reports, row[seen], time[seen])
    compact = [before[stops - lengths + (first - widest)] for first in starts]
    return reduce_view(view, prepared, asked, compact, before[stops])


def _slices(view: WindowView, timeline: Timeline, asked: Asked, first: int | None) -> tuple[list[np.ndarray], np.ndarray]:
    """The starts for each window and the ends. `first`: the asking points are the events from this place on."""
    upper = asked.time - view.delay if view.delay else asked.time
    starts = [timeline.after(asked.key, view.begin(upper - width)) for _, width in view.over]
    if view.delay:
        return starts, timeline.after(asked.key, upper)
    if first is not None:
        return starts, np.arange(first + view.own_event, first + view.own_event + len(upper))
    return starts, _before_own(timeline, asked, timeline.after(asked.key, upper), view.own_event)


def _evaluate_block(
    view: WindowView, timeline: Timeline, prepared: Prepared, asked: Asked, first: int | None
) -> Iterator[tuple[np.ndarray | None, list[Values]]]:
    """Yield (rows, their results), None for all of them, until all of `asked`, ordered by (key, time), had their turn."""
    starts, ends = _slices(view, timeline, asked, first)
    widest = np.minimum.reduce(starts)
    second = asked.added >= 0
    second[_masked(view, timeline, asked, widest, ends)] = True
    if not bool(second.any()):
        yield None, reduce_view(view, prepared, asked, starts, ends)
        return
    rows = np.flatnonzero(~second)
    yield rows, reduce_view(view, prepared, asked.take(rows), [start[rows] for start in starts], ends[rows])
    rows = np.flatnonzero(second)
    for run in chunks((ends - widest + 1)[rows]):
        part = rows[run]
        yield part, _reduce_gathered(view, timeline, asked.take(part), [start[part] for start in starts], ends[part])


def check_additions(view: WindowView, timeline: Timeline, asked: Asked, *, one_in: int = 1) -> None:
    """InvalidSystem when the windows would take more than MOST_ADDITIONS, estimated from evenly spaced asking points.
    `one_in`: only one in so many of the events and of the asking points is given."""
    added = len(view.over) * sum(a.kind not in ("count", "first", "last") for _, a in view.aggregates)
    rows = len(asked.key) * one_in
    if view.resolution or added * rows * len(timeline.index) * one_in <= MOST_ADDITIONS:
        return
    sample = asked.take(slice(None, None, max(len(asked.key) // SAMPLE, 1)))
    starts, ends = _slices(view, timeline, sample, None)
    lengths = sum(int(np.maximum(ends - first, 0).sum()) for first in starts) * one_in
    estimated = lengths * (added // len(view.over)) * rows / len(sample.key)
    if estimated > MOST_ADDITIONS:
        raise InvalidSystem(
            f"{view.where}: the windows of view `{view.name}` would take about {estimated:.0e} additions for {rows} asking "
            f"points, more than {MOST_ADDITIONS:.0e}",
            hint='add tile by tile: resolution="1h" (windows then begin at full hours), or shorten `over`',
        )


def evaluate(view: WindowView, timeline: Timeline, asked: Asked | None) -> list[Values]:
    """The columns of `view` at each asking point, in the order of `asked`. None: each event of the timeline asks, at its
    own time and offset, in order of offset."""
    events = timeline.events
    own = asked is None
    index = timeline.index if asked is None else order(asked.key, asked.time)
    if asked is None:
        n = len(index)
        asked = Asked(events.key, events.time, events.offset, events.offset, np.broadcast_to(ALWAYS, n), np.broadcast_to(-1, n))
    else:
        asked = asked.take(index)
    check_additions(view, timeline, asked)
    prepared = Prepared.of(view, events.columns, events.reports, timeline.events.key, timeline.events.time)
    results: list[Values] = []
    for first in range(0, max(len(index), 1), BLOCK):
        block = asked.take(slice(first, first + BLOCK))
        for rows, part in _evaluate_block(view, timeline, prepared, block, first if own else None):
            if not results:
                results = [(np.empty(len(index), values.dtype), None) for values, _ in part]
            _store(results, slice(first, first + BLOCK) if rows is None else rows + first, part)
    placed: list[Values] = []
    while results:  # (each is given up when it has its places: their memory is that of one more)
        values, defined = results.pop(0)
        placed.append((_placed(index, values), None if defined is None else _placed(index, defined)))
    return placed


def _placed(index: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """The values of the rows `index`, each at the place of its row."""
    values = np.empty_like(ordered)
    values[index] = ordered
    return values


def _store(results: list[Values], places: np.ndarray | slice, part: Sequence[Values]) -> None:
    """Write the results of some rows at their places."""
    for number, (values, defined) in enumerate(part):
        whole, mask = results[number]
        whole[places] = values
        if defined is not None and mask is None:
            mask = np.ones(len(whole), bool)
        if mask is not None:
            mask[places] = True if defined is None else defined
        results[number] = (whole, mask)
