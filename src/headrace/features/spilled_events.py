"""The accepted events of a file in arrival order, on disk: what does not fit into memory is read in parts."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from headrace.data.contract import Contract, contract_of
from headrace.data.file_rows import check_columns, file_rows
from headrace.data.files import format_of
from headrace.data.types import StreamSpec
from headrace.features.sorting import stable_argsort
from headrace.features.timeline import ALWAYS
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, UsageError
from headrace.kernel.log import LOG

SAMPLES = 200_000
"""Values of a column from which the ranges are taken into which its rows are parted."""


def _read(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Through a handle: a mapped file would count as memory of the process."""
    with path.open("rb") as file:
        return pl.read_ipc(file, columns=None if columns is None else list(columns))


class Pieces:
    """Frames that are written a piece at a time, each under a number, and read again by number in the order of writing."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._files: list[list[Path]] = [[] for _ in range(count)]
        self.rows = [0] * count
        self.lowest = [ALWAYS] * count
        """The lowest `_offset` of the rows that were written under each number."""

    def __len__(self) -> int:
        return len(self._files)

    def split(self, frame: pl.DataFrame, numbers: np.ndarray) -> None:
        """Write each row under its number; rows of one number keep their order."""
        order = stable_argsort(numbers.astype(np.int64, copy=False))
        frame = frame[order]
        ends = np.searchsorted(numbers[order], np.arange(len(self._files)), side="right")
        for number, (start, end) in enumerate(zip([0, *ends.tolist()], ends.tolist(), strict=False)):
            if end > start:
                self.write(number, frame[start:end])

    def write(self, number: int, frame: pl.DataFrame) -> None:
        path = self._folder / f"{number}-{len(self._files[number])}.arrow"
        self._files[number].append(path)
        self.rows[number] += len(frame)
        if "_offset" in frame.columns:
            self.lowest[number] = min(self.lowest[number], int(frame["_offset"].min() or 0))  # type: ignore[arg-type]
        frame.write_ipc(path, compression="lz4")

    def frames(self, number: int, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The rows of a number as they were written."""
        for path in self._files[number]:
            yield _read(path, columns)

    def moved(self, number: int) -> Iterator[pl.DataFrame]:
        """The rows of a number as they were written, each frame of which is then gone from the disk."""
        for path in self._files[number]:
            frame = _read(path)
            path.unlink()
            yield frame
        self._files[number] = []

    def read(self, number: int) -> pl.DataFrame | None:
        """All rows of a number, which are then gone from the disk; None when there are none."""
        frames = list(self.moved(number))
        return pl.concat(frames) if frames else None


@dataclass
class SpilledEvents:
    """Events in arrival order in `files`: the wanted columns, `_offset` (growing) and `_created`.

    `ends` are the offsets after each file, `dropped` those of redeliveries."""

    stream: StreamSpec
    rows: int = 0
    files: list[Path] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    dropped: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """The events, a file at a time, also where nothing of it is left."""
        for path, end in zip(self.files, self.ends, strict=True):
            frame = _read(path, columns)
            if len(self.dropped):
                offsets = np.arange(end - len(frame), end)
                frame = frame.filter(pl.Series(~np.isin(offsets, self.dropped, assume_unique=True)))
            yield frame


@dataclass(frozen=True, slots=True)
class Spilling:
    """How events are read: `at_once` rows in memory, files into `folder`."""

    folder: Path
    at_once: int


def spill_events(
    stream: StreamSpec, path: Path, columns: Iterable[str], spilling: Spilling, *, order_by: str | None
) -> SpilledEvents:
    """As `event_files.read_events`, with `columns` of the accepted events on disk."""
    kept = list(dict.fromkeys([stream.id, stream.time, stream.created or stream.time, *columns]))
    if format_of(path) == "parquet":
        parts = _typed(stream, path, kept, spilling, order_by)
    elif order_by is None:
        parts = _textual(stream, path, kept, spilling)
    else:
        raise UsageError(
            f"`{path}` is too large to be ordered by `{order_by}` in memory, and only Parquet is ordered on disk",
            hint="convert it to Parquet, give it in order of arrival, or give more `--memory`",
        )
    if order_by is not None:
        parts = _ordered(parts, _bounds(path, order_by, spilling), spilling.folder / f"{stream.name}-order")
    found = SpilledEvents(stream)
    increasing, newest = True, None
    for number, part in enumerate(parts):
        ids = part[stream.id]
        increasing = increasing and ids.dtype.is_integer() and bool((ids.diff().slice(1) > 0).all())
        increasing = increasing and (newest is None or not len(ids) or ids[0] > newest)
        newest = ids[-1] if len(ids) else newest
        created = pl.col(stream.created or stream.time).to_physical().alias("_created")
        offset = pl.int_range(found.rows, found.rows + len(part), dtype=pl.Int64).alias("_offset")
        target = spilling.folder / f"{stream.name}-{number}.arrow"
        part.select(*kept).with_columns(created, offset).write_ipc(target, compression="lz4")
        found.files.append(target)
        found.rows += len(part)
        found.ends.append(found.rows)
    if not increasing:
        found.dropped = _repeated(found, spilling)
        if len(found.dropped):
            LOG.warning("events with an id that came before", stream=stream.name, rows=len(found.dropped))
    return found


def _repeated(events: SpilledEvents, spilling: Spilling) -> np.ndarray:
    """The offsets of events whose id came before, in order."""
    pieces = Pieces(spilling.folder / f"{events.stream.name}-ids", max(1, -(-events.rows // spilling.at_once)))
    for frame in events.frames([events.stream.id, "_offset"]):
        pieces.split(frame, bucket_of(frame, [events.stream.id], len(pieces)))
    found = [np.zeros(0, np.int64)]
    for number in range(len(pieces)):
        piece = pieces.read(number)
        if piece is not None:
            found.append(piece.filter(~pl.col(events.stream.id).is_first_distinct())["_offset"].to_numpy())
    return np.sort(np.concatenate(found))


def bucket_of(frame: pl.DataFrame, columns: Sequence[str], count: int) -> np.ndarray:
    """int64 [n] below `count`: equal values of the columns (none: all rows) have the same one."""
    if not columns or count == 1:
        return np.zeros(len(frame), np.int64)
    return (frame.select(columns).hash_rows(seed=0) % count).cast(pl.Int64).to_numpy()


def _unpacked(path: Path, folder: Path) -> Path:
    if path.suffix != ".gz":
        return path
    plain = folder / path.stem
    if not plain.exists():
        with gzip.open(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    return plain


def _parts(path: Path, columns: Sequence[str], at_once: int) -> Iterator[pl.DataFrame]:
    """The rows of a Parquet file in order; InvalidInput when it cannot be read."""
    try:
        lazy = pl.scan_parquet(path).select(columns)
        total = lazy.select(pl.len()).collect().item()
        for start in range(0, total, at_once):
            yield lazy.slice(start, at_once).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(f"`{path}` cannot be read as Parquet: {error}", hint="check that the file is complete") from None


def _typed(
    stream: StreamSpec, path: Path, kept: Sequence[str], spilling: Spilling, order_by: str | None
) -> Iterator[pl.DataFrame]:
    """The accepted rows of a Parquet file, with `_place` and `_by` when they are to be ordered."""
    plain = _unpacked(path, spilling.folder)
    present = pl.read_parquet_schema(plain)
    check_columns(stream, path, list(present), order_by)
    names = dict.fromkeys([*(field.name for field in stream.fields), *([order_by] if order_by else [])])
    wanted = [name for name in names if name in present]
    refusing = _Refusing(stream)
    place = 0
    for frame in _parts(plain, wanted, spilling.at_once):
        refused = refusing.contract.check_frame(frame, refusing.now)
        keep = np.ones(len(frame), bool)
        keep[refused["_index"].to_numpy()] = False
        refusing.count(refused.rows())
        accepted = frame if not len(refused) else frame.filter(pl.Series(keep))
        part = refusing.contract.conform(accepted).select(kept)
        if order_by is not None:
            places = pl.Series("_place", place + np.flatnonzero(keep), dtype=pl.Int64)
            part = part.with_columns(places, accepted[order_by].alias("_by"))
        place += len(frame)
        yield part
    refusing.told()


def _textual(stream: StreamSpec, path: Path, kept: Sequence[str], spilling: Spilling) -> Iterator[pl.DataFrame]:
    """The accepted rows of a CSV or NDJSON file."""
    refusing = _Refusing(stream)
    for rows in file_rows(stream, path, spilling.folder):
        for lines in rows["event"].to_frame().iter_slices(spilling.at_once):
            part, refused = refusing.contract.decode_batch(lines["event"].to_list(), refusing.now)
            refusing.count(refused)
            yield part.select(kept)
    refusing.told()


class _Refusing:
    """Counts what the contract refuses, and tells it once."""

    def __init__(self, stream: StreamSpec) -> None:
        self.contract: Contract = contract_of(stream)
        self.now = MACHINE.now()
        self._stream = stream.name
        self._rows = 0
        self._first: Any = None

    def count(self, refused: Sequence[Any]) -> None:
        self._first = refused[0] if refused and not self._rows else self._first
        self._rows += len(refused)

    def told(self) -> None:
        if self._rows:
            LOG.warning("events refused by the contract", stream=self._stream, rows=self._rows, first=self._first)


def _bounds(path: Path, order_by: str, spilling: Spilling) -> pl.Series:
    """Values, growing, that part the rows into ranges of about half of `at_once`."""
    plain = _unpacked(path, spilling.folder)
    total = pl.scan_parquet(plain).select(pl.len()).collect().item()
    step = max(1, total // SAMPLES)
    empty = pl.Series(order_by, [], dtype=pl.read_parquet_schema(plain)[order_by])
    parts = (part[order_by].gather_every(step) for part in _parts(plain, [order_by], spilling.at_once))
    sample = pl.concat([empty, *parts]).drop_nulls().sort()
    places = np.linspace(0, len(sample), max(1, -(-2 * total // spilling.at_once)) + 1).astype(np.int64)[1:-1]
    return sample.gather(places[places < len(sample)]).unique(maintain_order=True)


def _ordered(parts: Iterable[pl.DataFrame], bounds: pl.Series, folder: Path) -> Iterator[pl.DataFrame]:
    """The rows by (`_by`, `_place`), nulls last, a range of `_by` at a time. Equal values lie in one range."""
    pieces = Pieces(folder, len(bounds) + 1)
    for part in parts:
        place = bounds.search_sorted(part["_by"], side="right").to_numpy().astype(np.int64)
        place[part["_by"].is_null().to_numpy()] = len(bounds)
        pieces.split(part, place)
    for number in range(len(pieces)):
        piece = pieces.read(number)
        if piece is not None:
            yield piece.sort("_by", "_place", nulls_last=True).drop("_by", "_place")
