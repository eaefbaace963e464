"""The accepted events of a file, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from headrace.data.contract import contract_of
from headrace.data.encoding import json_events
from headrace.data.files import format_of, read_lines, read_table, read_text_table
from headrace.data.types import StreamSpec
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput
from headrace.kernel.log import LOG


def read_events(stream: StreamSpec, path: Path, *, order_by: str | None) -> pl.DataFrame:
    """The accepted events of a file in arrival order (that of the file, or by `order_by`), with `_offset` and `_created`.

    What the contract refuses is left out and counted in the log, as are redeliveries and the same id with other content.
    """
    read = _typed if format_of(path) == "parquet" else _textual
    frame, refused = read(stream, path, order_by)
    if refused:
        LOG.warning("events refused by the contract", stream=stream.name, rows=len(refused), first=refused[0])
    created = pl.col(stream.created or stream.time).to_physical().alias("_created")
    frame = frame.with_columns(pl.col("_offset").cast(pl.Int64), created)
    ids = frame[stream.id]
    if not _increasing(ids):
        first = frame.filter(ids.is_first_distinct())
        if len(first) < len(frame):
            LOG.warning("events with an id that came before", stream=stream.name, rows=len(frame) - len(first))
        frame = first
    return frame


def _typed(stream: StreamSpec, path: Path, order_by: str | None) -> tuple[pl.DataFrame, list[Any]]:
    """Of a Parquet file: the accepted events with `_offset`, and why the others are refused."""
    wanted = dict.fromkeys([*(field.name for field in stream.fields), *([order_by] if order_by else [])])
    frame = _read_parquet(path, wanted)
    check_columns(stream, path, frame.columns, order_by)
    if order_by is not None:
        frame = frame.sort(order_by, maintain_order=True, nulls_last=True)
    contract = contract_of(stream)
    refused = contract.check_frame(frame, MACHINE.now())
    frame = frame.with_row_index("_offset")
    if len(refused):
        frame = frame.filter(~pl.col("_offset").is_in(refused["_index"].implode()))
    return contract.conform(frame).with_columns(frame["_offset"]), refused.rows()


def _textual(stream: StreamSpec, path: Path, order_by: str | None) -> tuple[pl.DataFrame, list[Any]]:
    """Of a CSV or NDJSON file, each row by itself: a bad value must not decide the type of its column."""
    table = read_table(path)
    check_columns(stream, path, table.columns, order_by)
    if format_of(path) == "csv":
        text = read_text_table(path)
        lines = json_events(stream.fields, text.select(f.name for f in stream.fields if f.name in text.columns), textual=True)
    else:
        lines = read_lines(path)
    if order_by is not None:
        places = table.select(pl.int_range(pl.len()).alias("place"), order_by)
        ordered = places.sort(order_by, maintain_order=True, nulls_last=True)
        lines = [lines[place] for place in ordered["place"].to_list()]
    frame, refused = contract_of(stream).decode_batch(lines, MACHINE.now())
    return frame.rename({"_index": "_offset"}), refused


def check_columns(stream: StreamSpec, path: Path, columns: Sequence[str], order_by: str | None) -> None:
    """InvalidInput when the file lacks a column that must be there."""
    missing = [field.name for field in stream.fields if field.name not in columns and field.required]
    if order_by is not None and order_by not in columns:
        missing.append(order_by)
    if missing:
        raise InvalidInput(
            f"`{path}` has no column `{missing[0]}`, which `{stream.name}` needs; it has {', '.join(columns)}",
            hint="rename the column or mend the declaration",
        )


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
