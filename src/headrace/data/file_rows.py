"""The rows of a file of events as JSON events with their sort keys, a bounded part of the file at a time."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO

import polars as pl
from polars.exceptions import PolarsError

from headrace.data.contract import Contract, contract_of
from headrace.data.encoding import json_column
from headrace.data.files import Format, format_of, unreadable
from headrace.data.frames import time_micros
from headrace.data.json_fields import exploded
from headrace.data.types import Field, FieldType, StreamSpec
from headrace.kernel.errors import InvalidInput
from headrace.kernel.progress import report

BLOCK_BYTES = 16 << 20
"""Of a text file that are read at once."""
LONGEST_RECORD = 256 << 20
PARQUET_ROWS = 131_072
_KEYS: dict[FieldType, pl.DataType] = {
    "int": pl.Int64(),
    "datetime": pl.Int64(),
    "bool": pl.Boolean(),
    "float": pl.Float64(),
    "str": pl.String(),
}
LAST = 2**63 - 1
"""The created of a row whose time cannot be read: such rows come last, in the order of the file."""


def file_rows(spec: StreamSpec, path: Path, scratch: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """Parts of the file in order, columns `_created` (Int64 microseconds), `_id` and `event` (Binary, JSON).

    `scratch` is a folder for what has to be unpacked. InvalidInput for a file that cannot be read, or without a column
    that must not be null.
    """
    kind = format_of(path)
    if kind == "parquet":
        parts = _parquet(spec, path, scratch)
    elif kind == "csv":
        parts = _csv(spec, path, block_bytes)
    else:
        parts = _ndjson(spec, path, block_bytes)
    try:
        yield from parts
    except (PolarsError, OSError, EOFError, zlib.error) as error:
        raise unreadable(path, kind, error) from None


def _parquet(spec: StreamSpec, path: Path, scratch: Path) -> Iterator[pl.DataFrame]:
    if path.suffix == ".gz":
        unpacked = scratch / "unpacked.parquet"
        with gzip.open(path) as packed, unpacked.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        path = unpacked
    lazy = pl.scan_parquet(path)
    columns = lazy.collect_schema().names()
    check_columns(spec, path, columns)
    lazy = lazy.select(f.name for f in spec.fields if f.name in columns)
    total = lazy.select(pl.len()).collect().item()
    for start in range(0, total, PARQUET_ROWS):
        frame = lazy.slice(start, PARQUET_ROWS).collect()
        yield _keyed(spec, frame, textual=False)
        report("reading", start + frame.height, total)


def _csv(spec: StreamSpec, path: Path, block_bytes: int) -> Iterator[pl.DataFrame]:
    """A line feed ends a record where an even number of quotes came before it (RFC 4180)."""
    header, lines = b"", 0
    for block in _blocks(path, "csv", block_bytes):
        if not header:
            end = _record_end(block, first=True)
            header, block = block[: end + 1], block[end + 1 :]  # noqa: PLW2901
            _check_header(spec, path, header)
        if block.strip():
            frame = _parsed(path, header, block, lines)
            lines += block.count(b"\n")
            yield _keyed(spec, frame.select(f.name for f in spec.fields if f.name in frame.columns), textual=True)
    if not header:
        raise InvalidInput(f"`{path}` cannot be read as csv: it is empty", hint="check that the file is complete")


def _check_header(spec: StreamSpec, path: Path, header: bytes) -> None:
    names = _records(header)[0]
    twice = [field.name for field in spec.fields if names.count(field.name) > 1]
    if twice:
        raise InvalidInput(f"`{path}` has {names.count(twice[0])} columns `{twice[0]}`", hint="remove one", field=twice[0])
    check_columns(spec, path, pl.read_csv(header, infer_schema=False).columns)


def _parsed(path: Path, header: bytes, block: bytes, before: int) -> pl.DataFrame:
    """The cells of a block; `before` is the number of lines between it and the header."""
    try:
        return pl.read_csv(header + block, infer_schema=False)
    except PolarsError:
        width, line = len(_records(header)[0]), before + header.count(b"\n")
        for record in _records(block):
            if len(record) > width:
                raise InvalidInput(
                    f"`{path}` has {len(record)} cells in the record that begins after line {line}, the header has {width}",
                    hint="quote cells that contain commas",
                ) from None
            line += 1 + sum(cell.count("\n") for cell in record)
        raise


def _records(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode("utf-8-sig", errors="replace"), newline="")))


def _ndjson(spec: StreamSpec, path: Path, block_bytes: int) -> Iterator[pl.DataFrame]:
    """Lines stay as they are; blank ones are none. Those of which id and time cannot be read come last, as they came."""
    contract = _keys_of(spec)
    for block in _blocks(path, "ndjson", block_bytes):
        lines = [line for line in block.splitlines() if line.strip()]
        if spec.explode is not None:
            lines = [event for line in lines for event in exploded(line, spec.explode)]
        frame, _ = contract.decode_batch(lines, 0)
        keyed = frame.select(pl.col("_index").cast(pl.UInt32), _created(spec, frame), _identity(spec.field(spec.id), frame))
        rows = pl.DataFrame({"event": pl.Series(lines, dtype=pl.Binary)}).with_row_index("_index")
        yield _ordered(rows.join(keyed, on="_index", how="left", maintain_order="left"))


@lru_cache(maxsize=256)
def _keys_of(spec: StreamSpec) -> Contract:
    """The contract of the fields by which events are sorted alone: the whole is checked when they are applied."""
    names = (spec.id, spec.time, spec.created)
    return Contract(tuple(replace(f, rules=()) for f in contract_of(spec).fields if f.name in names), time=None, max_future=0)


def _keyed(spec: StreamSpec, frame: pl.DataFrame, *, textual: bool) -> pl.DataFrame:
    keys = frame.select(_created(spec, frame), _identity(spec.field(spec.id), frame))
    return _ordered(keys.with_columns(json_column(spec.fields, frame, textual=textual)))


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col("_created").fill_null(LAST), "_id", "event")


def _created(spec: StreamSpec, frame: pl.DataFrame) -> pl.Expr:
    name = spec.time if spec.created is None else spec.created
    if name not in frame.columns:
        return pl.lit(None, pl.Int64).alias("_created")
    if frame.schema[name].is_temporal() or frame.schema[name].is_integer() or frame.schema[name] == pl.String:
        return time_micros(frame, name).cast(pl.Int64).alias("_created")
    return pl.lit(None, pl.Int64).alias("_created")


def _identity(field: Field, frame: pl.DataFrame) -> pl.Expr:
    """The id in the type by which it is ordered, the same whatever the format of the file."""
    dtype = frame.schema[field.name]
    if field.type == "datetime" and (dtype.is_temporal() or dtype.is_integer() or dtype == pl.String):
        return time_micros(frame, field.name).cast(pl.Int64).alias("_id")
    if field.type == "bool" and dtype == pl.String:
        return (pl.col(field.name).str.to_lowercase() == "true").alias("_id")
    return pl.col(field.name).cast(_KEYS[field.type], strict=False).alias("_id")


def check_columns(spec: StreamSpec, path: Path, columns: Sequence[str], order_by: str | None = None) -> None:
    """InvalidInput when the file lacks a column that must be there."""
    needed = [field.name for field in contract_of(spec).fields if field.required]
    missing = [name for name in (*needed, order_by) if name is not None and name not in columns]
    if missing:
        raise InvalidInput(
            f"`{path}` has no column `{missing[0]}`, which `{spec.name}` needs; it has {', '.join(columns)}",
            hint="rename the column in the file or the field in the system file",
            field=missing[0],
        )


@contextmanager
def _unpacking(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The content, and the file whose position tells the progress."""
    with path.open("rb") as raw:
        yield (gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw), raw  # type: ignore[misc]


def _blocks(path: Path, kind: Format, block_bytes: int) -> Iterator[bytes]:
    """The content in blocks that end where a record ends."""
    rest, total, mark = b"", path.stat().st_size, codecs.BOM_UTF8
    with _unpacking(path) as (content, raw):
        while block := content.read(block_bytes):
            block = (rest + block).removeprefix(mark)
            mark = b""
            end = _record_end(block) if kind == "csv" else block.rfind(b"\n")
            if end < 0 and len(block) > LONGEST_RECORD:
                raise InvalidInput(f"`{path}` has a record of more than {LONGEST_RECORD} bytes", hint="check the file's format")
            rest = block[end + 1 :]
            if end >= 0:
                yield block[: end + 1]
                report("reading", raw.tell(), total)
    if rest:
        yield rest
    report("reading", total, total)


def _record_end(block: bytes, *, first: bool = False) -> int:
    """The last line feed (the first, or the end of the block) outside quotes; -1 for none."""
    if first:
        end = block.find(b"\n")
        while end >= 0 and block.count(b'"', 0, end) % 2:
            end = block.find(b"\n", end + 1)
        return len(block) if end < 0 else end
    end, quotes = block.rfind(b"\n"), block.count(b'"')
    quotes -= block.count(b'"', end + 1) if end >= 0 else 0
    while end >= 0 and quotes % 2:
        before = block.rfind(b"\n", 0, end)
        quotes -= block.count(b'"', before + 1, end)
        end = before
    return end
