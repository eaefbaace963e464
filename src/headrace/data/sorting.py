"""Sorting more rows than fit into memory: sorted runs on disk, merged a part of each at a time, kept until all is done."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import polars as pl

from headrace.engines.durable_files import write_synced
from headrace.kernel.errors import EngineUnreachable

RUN_BYTES = 192 << 20
"""Of events that are sorted in memory at once."""
CHUNK_BYTES = 4 << 20
"""Of each run that are in memory while the runs are merged."""
INDEX = "sorted.json"
"""Names the runs when all are written; whoever comes after a kill goes on with them."""
FORMAT = 1
_KEY = ["_created", "_id", "_place"]


class SortedRows:
    """All rows in frames of bounded size, once; `rows` is their number."""

    def __init__(self, rows: int, frames: Iterator[pl.DataFrame]) -> None:
        self.rows = rows
        self._frames = frames

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self._frames


def sorted_rows(parts: Iterable[pl.DataFrame], scratch: Path, *, run_bytes: int = RUN_BYTES) -> SortedRows:
    """All rows of `parts` (columns `_created`, `_id`, `event`) by (created, id), nulls last, ties in the order they came.
    What fits into one run is never written to `scratch`."""
    runs: list[_Run] = []
    held: list[pl.DataFrame] = []
    size = place = 0
    for part in parts:
        if part.is_empty():
            continue
        held.append(part.with_columns(pl.int_range(place, place + part.height, dtype=pl.Int64).alias("_place")))
        place += part.height
        size += int(part.estimated_size())
        if size >= run_bytes:
            runs.append(_Run.write(_sorted(held), scratch, len(runs), size))
            held, size = [], 0
    if not runs:
        return SortedRows(place, iter([_sorted(held)] if held else []))
    if held:
        runs.append(_Run.write(_sorted(held), scratch, len(runs), size))
    index = {"format": FORMAT, "rows": place, "runs": [run.names for run in runs]}
    beside = scratch / f"{INDEX}.part"
    beside.write_bytes(msgspec.json.encode(index))
    beside.replace(scratch / INDEX)
    return SortedRows(place, _merged(runs))


def kept_rows(scratch: Path) -> SortedRows | None:
    """What an earlier `sorted_rows` of the same rows has left in `scratch`; None when it did not get as far."""
    try:
        index = msgspec.json.decode((scratch / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    if index["format"] != FORMAT:
        return None
    return SortedRows(index["rows"], _merged([_Run([scratch / name for name in names]) for names in index["runs"]]))


def _sorted(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).sort(_KEY, nulls_last=True)


class _Run:
    """A sorted run in small files. `loaded` are the rows in memory that are not yet given out."""

    def __init__(self, files: list[Path]) -> None:
        self.names = [file.name for file in files]
        self._files = files[::-1]
        self.loaded = pl.DataFrame()
        self.load()

    @classmethod
    def write(cls, frame: pl.DataFrame, scratch: Path, number: int, size: int) -> _Run:
        rows = max(1, frame.height * CHUNK_BYTES // max(size, 1))
        files = []
        for index, part in enumerate(frame.iter_slices(rows)):
            files.append(scratch / f"{number:05d}-{index:05d}.parquet")
            content = io.BytesIO()
            part.write_parquet(content, compression="lz4", statistics=False)
            _write(files[-1], content.getvalue())
        return cls(files)

    @property
    def more(self) -> bool:
        return bool(self._files)

    def load(self) -> None:
        """Read the next file when there are no rows in memory."""
        if self.loaded.is_empty() and self._files:
            self.loaded = pl.read_parquet(self._files.pop())


def _write(path: Path, content: bytes) -> None:
    """Durably: the index must not name what a power failure takes."""
    try:
        write_synced(path, content)
    except OSError as error:
        raise EngineUnreachable(f"cannot sort in `{path.parent}`: {error.strerror}", hint="free disk space") from None


def _merged(runs: list[_Run]) -> Iterator[pl.DataFrame]:
    """Each time the rows up to the earliest end of what is loaded of a run of which more is to come: none that is not yet
    loaded can precede them."""
    while runs:
        ends = [int(run.loaded["_created"][-1]) for run in runs if run.more]
        parts = []
        for number, run in enumerate(runs):
            upto = int(run.loaded["_created"].search_sorted(min(ends), "right")) if ends else run.loaded.height
            last = run.more and upto == run.loaded.height
            parts.append(
                run.loaded.head(upto).with_columns(
                    pl.lit(number, pl.Int32).alias("_run"), (pl.int_range(pl.len()) == upto - 1).and_(last).alias("_end")
                )
            )
        merged = pl.concat(parts).sort(_KEY, nulls_last=True)
        cut = merged["_end"].arg_max() if ends else None
        given = merged if cut is None else merged.head(cut + 1)
        for number, taken in given.group_by("_run").len().rows():
            runs[number].loaded = runs[number].loaded.slice(taken)
            runs[number].load()
        runs = [run for run in runs if run.loaded.height]
        yield given.drop("_run", "_end")
