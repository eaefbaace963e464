"""Importing a file of events into a stream, as history: sorted by (created, id), created at their event time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.data.appending import append_raw
from headrace.data.checking import LAST_TIME
from headrace.data.contract import contract_of
from headrace.data.encoding import json_events
from headrace.data.files import format_of, read_lines, read_table, read_text_table
from headrace.data.frames import time_micros
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput

BATCH = 65_536


@dataclass(frozen=True, slots=True)
class IngestResult:
    """`rows` events were appended from `first_offset` on. What the contract refuses shows in the quarantine."""

    stream: str
    rows: int
    first_offset: int
    next_offset: int
    seconds: float


def ingest(ctx: Context, stream: str, path: Path, *, progress: Callable[[int, int], None] | None = None) -> IngestResult:
    """Append every row of a Parquet, CSV or NDJSON file durably. `progress(done, rows)` is called after each batch.

    Columns that the stream does not declare are left out. NotFound for an unknown stream or file, InvalidInput for a
    file of another kind or without a column that must not be null.
    """
    started = MACHINE.monotonic()
    spec = ctx.specs.get(StreamSpec, stream)
    total, batches = _ndjson(spec, path) if format_of(path) == "ndjson" else _table(spec, path)
    done, first = 0, ctx.events.end(ctx.namespace.stream(stream), 0)
    for batch in batches:
        offset = append_raw(ctx, stream, batch, history=True)
        first = offset if done == 0 else first
        done += len(batch)
        if progress is not None:
            progress(done, total)
    end = ctx.events.end(ctx.namespace.stream(stream), 0)
    return IngestResult(stream, done, first, end, MACHINE.monotonic() - started)


def _table(spec: StreamSpec, path: Path) -> tuple[int, Iterator[list[bytes]]]:
    textual = format_of(path) == "csv"
    frame = read_text_table(path) if textual else read_table(path)
    missing = [f.name for f in contract_of(spec).fields if f.name not in frame.columns and not f.nullable]
    if missing:
        raise InvalidInput(
            f"`{path}` has no column `{missing[0]}`, which `{spec.name}` needs; it has {', '.join(frame.columns)}",
            hint="rename the column in the file or the field in the system file",
            field=missing[0],
        )
    frame = frame.select(f.name for f in spec.fields if f.name in frame.columns)
    created = time_micros(frame, spec.time if spec.created is None else spec.created)
    number = spec.field(spec.id).type == "int" and textual
    identity = pl.col(spec.id).cast(pl.Int64, strict=False) if number else pl.col(spec.id)
    frame = frame.sort(created, identity, nulls_last=True, maintain_order=True)
    return frame.height, (json_events(spec.fields, part, textual=textual) for part in frame.iter_slices(BATCH))


def _ndjson(spec: StreamSpec, path: Path) -> tuple[int, Iterator[list[bytes]]]:
    """Lines stay as they are; those that the contract refuses come last."""
    lines = read_lines(path)
    frame, refused = contract_of(spec).decode_batch(lines, LAST_TIME)
    order = frame.sort(spec.time if spec.created is None else spec.created, spec.id)["_index"].to_list()
    order += [place for place, _ in refused]
    parts = (order[start : start + BATCH] for start in range(0, len(order), BATCH))
    return len(order), ([lines[place] for place in part] for part in parts)
