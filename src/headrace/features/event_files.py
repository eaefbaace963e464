"""The accepted events of a file, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from headrace.data.contract import contract_of
from headrace.data.encoding import json_events
from headrace.data.file_rows import check_columns
from headrace.data.files import format_of, line_numbers, parse_lines, read_lines, read_table, read_text_table
from headrace.data.json_fields import UNREADABLE
from headrace.data.types import StreamSpec
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput
from headrace.kernel.log import LOG


def read_events(stream: StreamSpec, path: Path, *, order_by: str | None) -> pl.DataFrame:
    """The accepted events of a file in arrival order (that of the file, or by `order_by`), with `_offset` and `_created`.

    What the contract refuses is left out and counted in the log, as are redeliveries and the same id with other content:
    a file gives the rows that it would give when ingested, where the others land in quarantine.
    """
    read = {"parquet": _typed, "csv": _textual, "ndjson": _lines}[format_of(path)]
    frame, refused = read(stream, path, order_by)
    if refused:
        least = min(refused)
        LOG.warning("events refused by the contract", stream=stream.name, file=str(path), rows=len(refused),
                    first_place=least.place, field=least.field, reason=least.reason)  # fmt: skip
    created = pl.col(stream.created or stream.time).to_physical().alias("_created")
    frame = frame.with_columns(pl.col("_offset").cast(pl.Int64), created)
    ids = frame[stream.id]
    if not _increasing(ids):
        first = frame.filter(ids.is_first_distinct())
        if len(first) < len(frame):
            LOG.warning("events with an id that came before", stream=stream.name, rows=len(frame) - len(first))
        frame = first
    return frame


class Refused(NamedTuple):
    """Why a row is left out. `place` is the number of its line in an NDJSON file, else of its row, from 1. The value is not
    told: it may be personal."""

    place: int
    field: str
    reason: str


def _typed(stream: StreamSpec, path: Path, order_by: str | None) -> tuple[pl.DataFrame, list[Refused]]:
    """Of a Parquet file: the accepted events with `_offset`, and why the others are refused."""
    wanted = dict.fromkeys([*(field.name for field in stream.fields), *([order_by] if order_by else [])])
    frame = _read_parquet(path, wanted)
    check_columns(stream, path, frame.columns, order_by)
    place = None if order_by is None else _order(frame, order_by)
    if place is not None:
        frame = frame[place]
    contract = contract_of(stream)
    refused = contract.check_frame(frame, MACHINE.now())
    frame = frame.with_row_index("_offset")
    if len(refused):
        frame = frame.filter(~pl.col("_offset").is_in(refused["_index"].implode()))
    reasons = [
        Refused((index if place is None else place[index]) + 1, field or "", reason)
        for index, field, reason, _ in refused.rows()
    ]
    return contract.conform(frame).with_columns(frame["_offset"]), reasons


def _textual(stream: StreamSpec, path: Path, order_by: str | None) -> tuple[pl.DataFrame, list[Refused]]:
    """Of a CSV file, each row by itself: a bad value must not decide the type of its column."""
    table = read_table(path)
    check_columns(stream, path, table.columns, order_by)
    text = read_text_table(path)
    lines = json_events(stream.fields, text.select(f.name for f in stream.fields if f.name in text.columns), textual=True)
    return _decoded(stream, lines, range(len(lines)) if order_by is None else _order(table, order_by).to_list())


def _lines(stream: StreamSpec, path: Path, order_by: str | None) -> tuple[pl.DataFrame, list[Refused]]:
    """Of an NDJSON file, each line by itself, also one that is no JSON."""
    lines = read_lines(path)
    good: Sequence[int] = range(len(lines))
    try:
        table = read_table(path)
    except InvalidInput:
        good = [place for place, line in enumerate(lines) if _is_object(line)]
        if not good:
            raise
        table = parse_lines(path, [lines[place] for place in good])
    check_columns(stream, path, table.columns, order_by)
    if order_by is not None:
        bad = sorted(set(range(len(lines))) - set(good))
        good = [*(good[row] for row in _order(table, order_by).to_list()), *bad]
    frame, refused = _decoded(stream, lines, good if order_by is not None else range(len(lines)))
    if refused:
        numbers = line_numbers(path)
        refused = [one._replace(place=numbers[one.place - 1]) for one in refused]
    return frame, refused


def _decoded(stream: StreamSpec, lines: Sequence[bytes], order: Sequence[int]) -> tuple[pl.DataFrame, list[Refused]]:
    """The accepted events of the lines in this order, with `_offset`."""
    frame, refused = contract_of(stream).decode_batch([lines[place] for place in order], MACHINE.now())
    reasons = [Refused(order[index] + 1, found.field or "", found.reason) for index, found in refused]
    return frame.rename({"_index": "_offset"}), reasons


def _order(table: pl.DataFrame, column: str) -> pl.Series:
    """The rows in the order of the column; equal ones stay as they are, nulls come last."""
    ordered = table.select(pl.int_range(pl.len()).alias("_row"), column).sort(column, maintain_order=True, nulls_last=True)
    return ordered["_row"]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except UNREADABLE:
        return False


def _read_parquet(path: Path, wanted: Iterable[str]) -> pl.DataFrame:
    """The wanted columns of the file, as far as it has them."""
    if path.suffix == ".gz":
        table = read_table(path)
        return table.select(name for name in wanted if name in table.columns)
    try:
        lazy = pl.scan_parquet(path)
        present = lazy.collect_schema().names()
        return lazy.select(name for name in wanted if name in present).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(f"`{path}` cannot be read as Parquet: {error}", hint="check that the file is complete") from None


def _increasing(ids: pl.Series) -> bool:
    """Whether integer ids only grow, which spares the search for repeated ones."""
    return ids.dtype.is_integer() and bool((ids.diff().slice(1) > 0).all())
