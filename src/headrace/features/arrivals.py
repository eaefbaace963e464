"""In which order the events of several partitions became known, as one number each: `_arrival`.

Offsets of different partitions are not comparable, so `_offset` (the position) breaks ties of equal times, and `_arrival` says
what an asking point sees: the events with an arrival up to its own. Without that column the offset is both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from headrace.kernel.partitions import OFFSET_BITS

ARRIVAL = "_arrival"


def arrivals(frame: pl.DataFrame) -> np.ndarray:
    """The arrival of each event, int64 [n]."""
    return frame[ARRIVAL if ARRIVAL in frame.columns else "_offset"].to_numpy()


def interleaved(frame: pl.DataFrame) -> np.ndarray | None:
    """The arrivals where they are not the offsets."""
    return arrivals(frame) if ARRIVAL in frame.columns else None


def lies_in_several(frame: pl.DataFrame) -> bool:
    """Whether the events, sorted by `_offset`, lie in several partitions: else their offsets can be compared."""
    return len(frame) > 0 and int(frame["_offset"][0]) >> OFFSET_BITS != int(frame["_offset"][-1]) >> OFFSET_BITS


def in_order_of_knowledge(frame: pl.DataFrame) -> pl.DataFrame:
    """The events, sorted by `_offset`, with their arrival by (creation, position), in whatever order they were imported."""
    order = frame.select("_created").with_row_index("row").sort("_created", "row")["row"].to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return frame.with_columns(pl.Series(ARRIVAL, ranks))


def within_vectors(frame: pl.DataFrame, vectors: np.ndarray) -> pl.DataFrame:
    """The events with the number of the first of the vectors, int64 [k, partitions], that has them, k for none. The vectors
    grow: no component gets less."""
    offsets = frame["_offset"].to_numpy()
    source = offsets >> OFFSET_BITS
    arrived = np.full(len(offsets), len(vectors), np.int64)
    for partition in range(vectors.shape[1]):
        own = np.flatnonzero(source == partition)
        arrived[own] = np.searchsorted(vectors[:, partition], offsets[own], side="left")
    return frame.with_columns(pl.Series(ARRIVAL, arrived))


def growing(vectors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows of the vectors, int64 [n, partitions], in groups: (their numbers, which of the group's vectors each is of
    `np.unique(vectors[numbers], axis=0)`), such that those vectors grow. The reads of one partition make one group, unless
    the online state was lost and built again from an earlier position."""
    distinct, place = np.unique(vectors, axis=0, return_inverse=True)
    groups: list[list[int]] = []
    for number in range(len(distinct)):
        fitting = (group for group in groups if bool(np.all(distinct[group[-1]] <= distinct[number])))
        group = next(fitting, None)
        if group is None:
            groups.append(group := [])
        group.append(number)
    found = []
    for group in groups:
        rows = np.flatnonzero(np.isin(place, group))
        found.append((rows, np.searchsorted(np.array(group), place.ravel()[rows])))
    return found


def joined(parts: Sequence[tuple[np.ndarray, np.ndarray]], length: int) -> np.ndarray:
    """(rows, values of them) of several groups, put together."""
    rows = np.concatenate([rows for rows, _ in parts])
    values = np.concatenate([values for _, values in parts])
    result = np.empty(length, values.dtype)
    result[rows] = values
    return result
