"""Recomputing what was read of a re-keyed view, whose position is a vector: an event counts if it is within that of its
partition. The vectors of one partition of the view grow, so that their numbers say what each read saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from headrace.features.arrivals import ARRIVAL, growing, joined, within_vectors
from headrace.features.frames import AskingPoints, frame_of, view_values
from headrace.features.reducers import Values
from headrace.features.routes import Route
from headrace.features.types import StoredView
from headrace.kernel.specs import Specs


class LoggedReads(NamedTuple):
    """What was asked of a view: the requests, their asking times int64 [n], the logged positions, bool [n] whether each is an
    event of the view's stream, and the events' offsets in the log, int64 [n], -1 for none."""

    table: pl.DataFrame
    at: np.ndarray
    positions: Sequence[Mapping[str, int]]
    is_event: np.ndarray
    own: np.ndarray


def vector_values(
    view: StoredView, route: Route, reads: LoggedReads, frames: Mapping[str, pl.DataFrame], specs: Specs
) -> list[Values]:
    """The columns of the view at the logged vectors."""
    vectors = {
        name: np.array([[p[f"{name}@{part}"] for part in range(count)] for p in reads.positions], np.int64)
        for name, count in route.sources.items()
    }
    together = np.concatenate(list(vectors.values()), axis=1)
    asked = route.partitions_of(reads.table)
    events = frame_of(frames, view.stream)
    if view.by:
        events = events.drop_nulls(view.by)
    lies = route.partitions_of(events)
    parts: list[tuple[np.ndarray, list[Values]]] = []
    for partition in np.unique(asked).tolist():
        mine = np.flatnonzero(asked == partition)
        own = events.filter(pl.Series(lies == partition, dtype=pl.Boolean))
        for places, number in growing(together[mine]):
            rows = mine[places]
            known = {name: frame_of(frames, name) for name in route.sources} | {view.stream: own}
            seen = {name: within_vectors(known[name], _distinct(vectors[name][rows], number)) for name in known}
            points = _points(reads, rows, number, seen[view.stream])
            parts.append((rows, view_values(view, points, seen, specs)))
    return [_together([(rows, values[column]) for rows, values in parts], len(asked)) for column in range(len(view.columns))]


def _distinct(vectors: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The vectors [k, partitions] of the numbers 0 .. k - 1."""
    _, first = np.unique(number, return_index=True)
    return vectors[first]


def _points(reads: LoggedReads, rows: np.ndarray, number: np.ndarray, events: pl.DataFrame) -> AskingPoints:
    own = reads.own[rows]
    place = np.searchsorted(events["_offset"].to_numpy(), own)
    arrived = np.append(events[ARRIVAL].to_numpy(), 0)[place]
    own = np.where((own >= 0) & (arrived <= number), own, -1)
    return AskingPoints(reads.table[rows], reads.at[rows], number, own, number, reads.is_event[rows])


def _together(parts: Sequence[tuple[np.ndarray, Values]], length: int) -> Values:
    values = joined([(rows, found) for rows, (found, _) in parts], length)
    if all(defined is None for _, (_, defined) in parts):
        return values, None
    given = [(rows, np.ones(len(rows), bool) if defined is None else defined) for rows, (_, defined) in parts]
    return values, joined(given, length)
