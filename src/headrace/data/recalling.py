"""Events that were accepted before their stream was declared as it is now, read as it is declared now.

A field that is added later may stand in them already, as an unknown member: then it has that value, and none, or its default,
where the value is not of its type. Whether an event was accepted is decided once, when it is applied: rules that came later
take nothing away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import msgspec
import polars as pl

from headrace.data.checking import check_document
from headrace.data.contract import Contract, contract_of
from headrace.data.json_fields import UNREADABLE, flattener, members, path_roots, unknown_members
from headrace.data.types import Field, StreamSpec, Violation


@lru_cache(maxsize=256)
def _later(spec: StreamSpec) -> dict[str, Field]:
    """The fields that may have been added, as they stand in a flattened event."""
    return {f.name: replace(f, rules=(), read=None) for f in contract_of(spec).fields if not f.required}


@lru_cache(maxsize=256)
def _types(fields: tuple[Field, ...]) -> Contract:
    """The contract of flattened events without anything but types."""
    return Contract(tuple(replace(field, rules=(), read=None) for field in fields), time=None, max_future=0)


def recall(spec: StreamSpec, values: Sequence[bytes]) -> pl.DataFrame:
    """Accepted events as rows of the declared columns and `_index`, as `Contract.decode_batch` gives them. An event that lacks
    what every event must have now is left out."""
    return _types(contract_of(spec).fields).decode_batch([_mended(spec, raw) for raw in values], 0)[0]


def fill_later_fields(spec: StreamSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the lake (`records.event_schema`): the fields without which they were written get their values out of `_extra`,
    or their defaults."""
    later = _later(spec)
    if later and frame["_extra"].null_count() < frame.height:
        roots = {root for field in contract_of(spec).fields if field.name in later for root in path_roots(field)}
        marks = [msgspec.json.encode(name).decode() for name in sorted(roots | set(later))]
        held = frame["_extra"].str.contains_any(marks).fill_null(False).arg_true()
        frame = _filled(spec, frame, held) if len(held) else frame
    defaults = [pl.col(field.name).fill_null(field.default) for field in spec.fields if field.default is not None]
    return frame.with_columns(defaults)


def _filled(spec: StreamSpec, frame: pl.DataFrame, held: pl.Series) -> pl.DataFrame:
    later, names = _later(spec), frozenset(contract_of(spec).names)
    extras = [extra.encode() for extra in frame["_extra"][held].to_list()]
    found, _ = _types(tuple(later.values())).decode_batch([_mended(spec, extra) for extra in extras], 0)
    left = pl.Series("_extra", [unknown_members(extra, names) for extra in extras], dtype=pl.String)
    found = found.select(pl.col(name).alias(f"_later_{name}") for name in later)
    rows = pl.DataFrame([held.cast(pl.UInt32).alias("_row"), left.alias("_left")]).hstack(found)
    joined = frame.with_row_index("_row").join(rows, on="_row", how="left", maintain_order="left")
    known = [pl.coalesce(name, f"_later_{name}").alias(name) for name in later]
    extra = pl.when(pl.col("_row").is_in(held.cast(pl.UInt32).implode())).then("_left").otherwise("_extra").alias("_extra")
    return joined.with_columns(*known, extra).select(frame.columns)


def _mended(spec: StreamSpec, raw: bytes) -> bytes:
    """The flattened event without the members that are not of the type of the field that was added for them."""
    later, flat = _later(spec), flattener(contract_of(spec).fields)
    try:
        found = members(raw if flat is None else flat(raw))
    except UNREADABLE:
        return raw
    return msgspec.json.encode({name: value for name, value in found.items() if name not in later or _fits(later[name], value)})


def _fits(field: Field, raw: msgspec.Raw) -> bool:
    try:
        return not isinstance(check_document((field,), {field.name: msgspec.json.decode(raw)}), Violation)
    except UNREADABLE:
        return False
