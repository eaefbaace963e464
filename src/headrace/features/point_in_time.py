"""The point-in-time join: for each label row, the values that were known at its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from headrace.features.attribute_tables import ColumnsOf, as_frame, micros
from headrace.features.codes import key_codes
from headrace.features.last_at_most import last_at_most
from headrace.features.newest import candidates
from headrace.kernel.errors import InvalidInput
from headrace.kernel.times import duration

WORKERS = 3
"""Views that are joined at once, which bounds the memory: enough for two cores to be busy to the end of three views."""


@dataclass(frozen=True)
class View:
    """A table of attributes over time. `keys` name its key columns (none: one value for all), `time` the event time,
    `created` when a row became known (None: at its event time); later rows of the table win ties. `ttl`: a value older
    than this is null; a duration such as "7d". `rename` maps a key column to the column of the labels it is joined with.
    `columns`: those to add, by default all others. `table`: Polars, pandas, Arrow or the path of a file."""

    name: str
    table: Any
    keys: Sequence[str]
    time: str
    created: str | None = None
    ttl: str | timedelta | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] | None = None


def point_in_time_join(labels: Any, views: Sequence[View], *, time: str = "at", as_known: bool = True) -> pl.DataFrame:
    """Every label row once, in order, with the columns `{view}__{column}`.

    A value is that of the row with the newest event time <= the label's `time`; of equal times the newest created, then the
    last in the table. With `as_known`, rows created after the label's time are not seen. A value exactly as old as the ttl
    counts, a null stays null, a null key has no value. Raises InvalidInput for missing columns or unfit types.
    """
    frame = as_frame(labels)
    at = micros(frame, time, "the labels")
    names = [view.name for view in views]
    if len(set(names)) < len(names):
        raise InvalidInput(f"two views are called `{next(n for n in names if names.count(n) > 1)}`", hint="rename one")
    with ThreadPoolExecutor(WORKERS) as pool:
        joined = list(pool.map(lambda view: _join(frame, at, view, as_known), views))
    added = [column for columns in joined for column in columns]
    twice = [column.name for column in added if column.name in frame.columns]
    if twice:
        raise InvalidInput(f"the labels have a column `{twice[0]}` already", hint="rename it, or the view")
    return frame.with_columns(added)


def _key_pairs(view: View, labels: pl.DataFrame, table: pl.DataFrame) -> list[tuple[str, str]]:
    """(column of the table, column of the labels) of each key."""
    renamed = dict(view.rename)
    inverse = {new: old for old, new in renamed.items()}
    pairs = []
    for key in view.keys:
        options = [(key, key)]
        if key in renamed:
            options = [(key, renamed[key]), (renamed[key], key)]
        elif key in inverse:
            options = [(inverse[key], key), (key, inverse[key])]
        fitting = [(mine, theirs) for mine, theirs in options if mine in table.columns and theirs in labels.columns]
        if not fitting:
            mine, theirs = options[0]
            raise InvalidInput(
                f"view `{view.name}` is joined by `{mine}` with `{theirs}` of the labels; the table has "
                f"{', '.join(table.columns)}, the labels have {', '.join(labels.columns)}",
                hint='map names by rename={"column of the table": "column of the labels"}',
            )
        pairs.append(fitting[0])
    stray = set(renamed) - set(view.keys) - {inverse[key] for key in view.keys if key in inverse}
    if stray:
        raise InvalidInput(f"view `{view.name}` renames `{min(stray)}`, which is none of its keys", hint="rename keys only")
    return pairs


def _alike(view: View, mine: pl.Series, theirs: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Both sides of a key in one type."""
    if mine.dtype == theirs.dtype:
        return mine, theirs
    if mine.dtype.is_integer() and theirs.dtype.is_integer():
        # (one beyond 2**63 equals none of the other side, as null does)
        return mine.cast(pl.Int64, strict=False), theirs.cast(pl.Int64, strict=False)
    text = (pl.String, pl.Categorical, pl.Enum)
    if isinstance(mine.dtype, text) and isinstance(theirs.dtype, text):
        return mine.cast(pl.String), theirs.cast(pl.String)
    raise InvalidInput(
        f"key `{mine.name}` of view `{view.name}` is {mine.dtype}, `{theirs.name}` of the labels is {theirs.dtype}",
        hint="convert one of them",
    )


def _join(labels: pl.DataFrame, at: pl.Series, view: View, as_known: bool) -> list[pl.Series]:
    """The columns that one view adds. Those of a Parquet file are read once it is known which rows are taken."""
    place = f"view `{view.name}`"
    with ColumnsOf(view.table) as source:
        known = source.head.columns
        pairs = _key_pairs(view, labels, source.head)
        times = [view.time] if view.created is None else [view.time, view.created]
        for name in times:
            micros(source.head, name, place)
        others = {*times, *(mine for mine, _ in pairs)}
        columns = [name for name in known if name not in others] if view.columns is None else list(view.columns)
        missing = [name for name in columns if name not in known]
        if missing:
            raise InvalidInput(f"{place} has no column `{missing[0]}`; it has {', '.join(known)}", hint="mend `columns`")
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise InvalidInput(f"{place} adds the column `{twice[0]}` twice", hint="name it once in `columns`")
        rows = _rows(view, labels, at, source, pairs, as_known)
        gather = pl.Series(np.where(rows < 0, 0, rows)).set(pl.Series(rows < 0), None)
        return [column.rechunk().gather(gather).alias(f"{view.name}__{column.name}") for column in source.read(columns)]


def _rows(
    view: View, labels: pl.DataFrame, at: pl.Series, source: ColumnsOf, pairs: Sequence[tuple[str, str]], as_known: bool
) -> np.ndarray:
    """The row of the view's table that each label sees, -1 for none or one that is too old."""
    names = [view.time] if view.created is None else [view.time, view.created]
    table = source.read(list(dict.fromkeys([*(mine for mine, _ in pairs), *names])))
    sides = [_alike(view, table[mine], labels[theirs]) for mine, theirs in pairs]
    key, asked = key_codes([mine for mine, _ in sides], [theirs for _, theirs in sides], len(table), len(labels))
    moments = [micros(table, name, f"view `{view.name}`") for name in names]
    unfit = [column.is_null().to_numpy() for column in moments if column.null_count()]
    if int(key.min(initial=0)) < 0:
        unfit.append(key < 0)
    time, *created = (_filled(column) for column in moments)
    del table, sides, moments  # (the arrays are copies, and what follows needs the memory)
    usable = np.flatnonzero(~np.logical_or.reduce(unfit)) if unfit else slice(None)
    rows = _newest_rows(key[usable], time[usable], created[0][usable] if created else None, asked, at, as_known)
    if not isinstance(usable, slice):
        rows = np.append(usable, -1)[rows]
    if view.ttl is not None and len(time):
        rows = np.where(_filled(at) - time[rows] > _ttl(view.ttl), -1, rows)
    return rows


def _ttl(ttl: str | timedelta) -> int:
    return ttl // timedelta(microseconds=1) if isinstance(ttl, timedelta) else duration(ttl)


def _newest_rows(
    key: np.ndarray, time: np.ndarray, created: np.ndarray | None, asked: np.ndarray, at: pl.Series, as_known: bool
) -> np.ndarray:
    """The event that each label sees, -1 for none."""
    moments = _filled(at)
    search = candidates(key, time, created, asked, moments)
    found = search.found
    search.first[at.is_null().to_numpy()] = len(search.index)
    if created is not None and as_known:
        found = last_at_most(created[search.index], found, search.first, moments)
        found = np.where(found < 0, search.first - 1, found)
    return search.rows(found)


def _filled(column: pl.Series) -> np.ndarray:
    """Without nulls, as an array."""
    return (column.fill_null(0) if column.null_count() else column).to_numpy()
