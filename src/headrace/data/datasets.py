"""Dataset versions: a frame pinned as a Delta version and the hash of its content."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import polars as pl
from polars.exceptions import PolarsError
from sqlalchemy import select

from headrace.data.tables import DATASET_VERSIONS
from headrace.data.types import DatasetVersion
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound
from headrace.kernel.ids import checked_name
from headrace.kernel.times import format_time

ROW = "_row"
_STORED = (pl.String, pl.Boolean, pl.Date)


def frame_hash(frame: pl.DataFrame) -> str:
    """SHA-256 of names, types and values in order, hex: for each column its header, the null mask when there are nulls,
    then little-endian values (times as integers, booleans as bytes, one NaN) or the lengths and the UTF-8 of its texts."""
    digest = hashlib.sha256()
    for column in frame:
        nulls = column.is_null()
        header = [column.name, _type_name(column.dtype), len(column), int(nulls.sum())]
        digest.update(msgspec.json.encode(header))
        if nulls.any():
            digest.update(np.packbits(nulls.to_numpy()).tobytes())
        present = column.drop_nulls()
        if column.dtype == pl.String:
            digest.update(present.str.len_bytes().to_numpy().astype("<u4").tobytes())
            digest.update("".join(present.to_list()).encode())
        else:
            values = present.to_physical().to_numpy()
            if column.dtype.is_float():
                values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
            digest.update(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes())
    return digest.hexdigest()


def _type_name(dtype: pl.DataType) -> str:
    """Spelt here, so that the hash does not change with the library's own spelling."""
    if isinstance(dtype, pl.Datetime):
        return f"Datetime[{dtype.time_unit}, {dtype.time_zone}]"
    return type(dtype).__name__


def table_of_dataset(ctx: Context, name: str) -> str:
    """The lake table whose versions the pins name."""
    return ctx.namespace.name("datasets", name)


def pin(ctx: Context, name: str, frame: pl.DataFrame, *, inputs: dict[str, Any]) -> DatasetVersion:
    """Store the frame, rows in order, as a new immutable version; the same content from the same inputs is pinned once.
    `inputs` (JSON types) say what it was made of. Unsigned integers become Int64, categories texts, times microseconds;
    InvalidInput for a column of another type than numbers, texts, booleans and times."""
    checked_name("dataset", name)
    frame = _storable(name, frame)
    content = frame_hash(frame)
    table = DATASET_VERSIONS
    with ctx.catalog.reading() as connection:
        own = (table.c.system == ctx.system) & (table.c.name == name) & (table.c.content_hash == content)
        for row in connection.execute(select(table).where(own).order_by(table.c.version)):
            if row.inputs == msgspec.json.decode(msgspec.json.encode(inputs)):
                return _version(row)
    version = ctx.lake.overwrite(table_of_dataset(ctx, name), frame.with_row_index(ROW).cast({ROW: pl.Int64}))
    pinned = DatasetVersion(name, version, content, frame.height, format_time(ctx.clock.now()))
    with ctx.catalog.transaction() as connection:
        connection.execute(
            table.insert().values(
                system=ctx.system, name=name, version=version, content_hash=content, rows=frame.height,
                inputs=inputs, created_at=pinned.created_at,
            )
        )  # fmt: skip
    return pinned


def _storable(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """In types that Delta gives back as they were."""
    casts: dict[str, pl.DataType] = {}
    for column, dtype in frame.schema.items():
        if dtype.is_unsigned_integer():
            casts[column] = pl.Int64()
        elif dtype in (pl.Categorical, pl.Enum):
            casts[column] = pl.String()
        elif isinstance(dtype, pl.Datetime):
            casts[column] = pl.Datetime("us", dtype.time_zone)
        elif not (dtype.is_float() or dtype.is_signed_integer() or dtype in _STORED):
            allowed = "make it a number, a text, a boolean or a time"
            raise InvalidInput(f"column `{column}` of dataset `{name}` is of type {dtype}", hint=allowed, field=column)
    try:
        return frame.cast(casts)  # type: ignore[arg-type]
    except PolarsError as error:
        raise InvalidInput(f"dataset `{name}`: {error}", hint="make it numbers below 2^63") from None


def load(ctx: Context, ref: str) -> pl.DataFrame:
    """The rows of `name@version` in order. NotFound for an unknown one, CheckFailed when the content has changed."""
    pinned = dataset(ctx, ref)
    frame = ctx.lake.read(table_of_dataset(ctx, pinned.name), version=pinned.version).sort(ROW).drop(ROW)
    found = frame_hash(frame)
    if found != pinned.content_hash:
        raise CheckFailed(
            f"dataset `{ref}` has content {found[:12]}, pinned was {pinned.content_hash[:12]}",
            hint="restore the data folder from a backup: `headrace restore`",
        )
    return frame


def datasets(ctx: Context) -> list[DatasetVersion]:
    """Every pinned version of the system, by name and version."""
    table = DATASET_VERSIONS
    with ctx.catalog.reading() as connection:
        found = select(table).where(table.c.system == ctx.system).order_by(table.c.name, table.c.version)
        return [_version(row) for row in connection.execute(found)]


def dataset(ctx: Context, ref: str) -> DatasetVersion:
    """The pinned version `name@version`; NotFound lists the known ones."""
    known = {pinned.ref: pinned for pinned in datasets(ctx)}
    if ref not in known:
        raise NotFound.of("dataset version", ref, known)
    return known[ref]


def inputs_of(ctx: Context, ref: str) -> dict[str, Any]:
    """What the version was made of, as given to `pin`."""
    pinned, table = dataset(ctx, ref), DATASET_VERSIONS
    own = (table.c.system == ctx.system) & (table.c.name == pinned.name) & (table.c.version == pinned.version)
    with ctx.catalog.reading() as connection:
        inputs: dict[str, Any] = connection.execute(select(table.c.inputs).where(own)).scalar_one()
    return inputs


def _version(row: Any) -> DatasetVersion:
    return DatasetVersion(row.name, row.version, row.content_hash, row.rows, row.created_at)
