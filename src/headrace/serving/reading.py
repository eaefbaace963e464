"""Reading what serving has written: the prediction log, as records and as a frame, and the counters, summed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.data.files import check_out, write_table
from headrace.engines.context import Context
from headrace.registry.declarations import definition_of
from headrace.serving.types import CellCounts, PredictionRecord, ServiceSpec, decode_record

CHUNK = 16_384


def prediction_records(ctx: Context, service: str, start_offset: int = 0) -> Iterator[tuple[int, PredictionRecord]]:
    """(offset, record) from `start_offset` to the end of the log as it is now, in log order."""
    topic = ctx.namespace.predictions(service)
    offset, end = start_offset, ctx.events.end(topic, 0)
    while offset < end:
        records = ctx.events.read(topic, 0, offset, max_records=min(CHUNK, end - offset))
        if not len(records):
            return
        for place, value in enumerate(records.values, records.first):
            yield place, decode_record(value)
        offset = records.next


def predictions_frame(ctx: Context, service: str, start_offset: int = 0) -> pl.DataFrame:
    """The log as INTERFACE.md exports it: `prediction_id, at, version, role, read_position, entity_key, score`, then the
    features of the versions in it as Float64, null where a version does not read one; a feature that is called as one of
    those columns is `feature_{name}`.

    `read_position` is JSON, {view: {stream: last applied position}}, of a re-keyed view {view: {stream@partition: last applied
    position}}; `score` is null where the model failed.
    """
    spec = ctx.specs.get(ServiceSpec, service)
    columns = list(spec.model.features.columns)
    read: dict[int, tuple[str, ...]] = {}
    encode = msgspec.json.Encoder(order="deterministic").encode
    rows: list[tuple[Any, ...]] = []
    features: list[dict[str, float]] = []
    for _, record in prediction_records(ctx, service, start_offset):
        rows.append((
            record.id, record.at, record.version, record.role, encode(record.positions).decode(), record.entity, record.score,
        ))  # fmt: skip
        if record.version not in read:
            read[record.version] = definition_of(ctx, spec.model.name, record.version).features.columns
            columns += [name for name in read[record.version] if name not in columns]
        features.append(dict(zip(read[record.version], record.features, strict=False)))
    schema = {
        "prediction_id": pl.String, "at": pl.Int64, "version": pl.Int64, "role": pl.String, "read_position": pl.String,
        "entity_key": pl.String, "score": pl.Float64,
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    names = {name: f"feature_{name}" if name in schema else name for name in columns}
    values = [pl.Series(names[name], [row.get(name) for row in features], pl.Float64).fill_nan(None) for name in columns]
    return frame.with_columns(values)


def export(ctx: Context, service: str, path: Path) -> int:
    """Write `predictions_frame` as Parquet and return the number of rows."""
    check_out(path)
    frame = predictions_frame(ctx, service)
    write_table(frame, path)
    return len(frame)


class _Cell(msgspec.Struct):
    version: int
    role: str
    day: int
    count: int
    errors: int
    features: dict[str, list[int]]
    score: list[int]
    latency: list[int]


class _Counters(msgspec.Struct):
    to: int
    cells: list[_Cell]


Cells = dict[tuple[int, str, int], CellCounts]
"""(version, role, asking day) -> its counters; a day is the number of days since 1970-01-01 (`at // DAY`)."""
_counters = msgspec.json.Decoder(_Counters)


def read_cells(ctx: Context, service: str, from_day: int, to_day: int) -> tuple[Cells, int]:
    """The summed counters of the asking days `from_day` <= day < `to_day`, and the offset of the prediction log, exclusive,
    up to which they count."""
    topic = ctx.namespace.counters(service)
    offset, end, counted = 0, ctx.events.end(topic, 0), 0
    found: Cells = {}
    while offset < end:
        records = ctx.events.read(topic, 0, offset, max_records=CHUNK)
        for value in records.values:
            record = _counters.decode(value)
            counted = record.to
            for cell in record.cells:
                if from_day <= cell.day < to_day:
                    found.setdefault((cell.version, cell.role, cell.day), CellCounts()).add(_counts(cell))
        offset = records.next
    return found, counted


def _counts(cell: _Cell) -> CellCounts:
    features = {name: np.array(counts, np.int64) for name, counts in cell.features.items()}
    return CellCounts(cell.count, cell.errors, features, np.array(cell.score, np.int64), np.array(cell.latency, np.int64))
