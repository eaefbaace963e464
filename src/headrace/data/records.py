"""From records of the log to rows: the contract applied as of the arrival of each event."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from headrace.data.appending import decode_header
from headrace.data.contract import contract_of
from headrace.data.frames import physical
from headrace.data.recalling import recall
from headrace.data.types import StreamSpec, Violation
from headrace.engines.events.port import Records
from headrace.kernel.partitions import base_of, partition_of_key


def event_schema(spec: StreamSpec) -> pl.Schema:
    """The columns of accepted events: the declared fields, `_extra` (a JSON object of the members that are no field, null
    without), `_offset` and `_created` (microseconds)."""
    return pl.Schema({**contract_of(spec).schema, "_extra": pl.String(), "_offset": pl.Int64(), "_created": pl.Int64()})


def decode_records(
    spec: StreamSpec, records: Records, partition: int = 0, *, accepted: Callable[[int], bool] | None = None
) -> tuple[pl.DataFrame, list[tuple[int, Violation]]]:
    """The events of a partition that fulfil the contract, with `event_schema`, and the refused ones by position.

    The answer depends on the records and the contract alone: an event is judged by the clock at its arrival. Events at
    positions of which `accepted` says so were accepted by an earlier contract: today's refuses none of them.
    """
    arrived, history = _arrivals(records)
    contract = contract_of(spec)
    frame, refused = contract.decode_batch(records.values, arrived)
    if accepted is not None:
        first = base_of(partition) + records.first
        places = [place for place, _ in refused if accepted(first + place)]
        if places:
            recalled = recall(spec, [records.values[place] for place in places])
            recalled = recalled.with_columns(pl.Series("_index", places, dtype=pl.Int64).gather(recalled["_index"]))
            frame = pl.concat([frame, recalled]).sort("_index")
            known = set(recalled["_index"].to_list())
            refused = [pair for pair in refused if pair[0] not in known]
    index = frame["_index"].to_numpy()
    extra = contract.unknown([records.values[place] for place in index])
    created = arrived[index]
    if spec.created is not None:
        created = physical(frame[spec.created]).fill_null(pl.Series(created)).to_numpy()
    elif history.any():
        created = np.where(history[index], physical(frame[spec.time]).to_numpy(), created)
    first = base_of(partition) + records.first
    own = [pl.Series("_extra", extra, dtype=pl.String), pl.Series("_offset", index + first), pl.Series("_created", created)]
    frame = pl.DataFrame([*(frame[name] for name in contract.names), *own])
    elsewhere = _elsewhere(spec, frame, partition)
    if elsewhere:
        frame = frame.filter(~pl.col("_offset").is_in([offset for offset, _ in elsewhere]))
    return frame, [*((first + place, violation) for place, violation in refused), *elsewhere]


def _elsewhere(spec: StreamSpec, frame: pl.DataFrame, partition: int) -> list[tuple[int, Violation]]:
    """Events whose key belongs to another partition: a foreign producer put them here, or a contract that did not
    accept them then."""
    if spec.partitions == 1:
        return []
    keys = frame[spec.key].to_physical().to_list()
    belongs = {key: partition_of_key(key, spec.partitions) for key in set(keys)}
    return [
        (offset, Violation(spec.key, f"belongs to partition {belongs[key]}, stood in {partition}: replay it", str(key)))
        for offset, key in zip(frame["_offset"].to_list(), keys, strict=True)
        if belongs[key] != partition
    ]


def _arrivals(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] times of arrival and bool[n] whether it was an import; a record without header arrived at its timestamp."""
    known = {header: decode_header(header) for header in set(records.headers) if header}
    if len(known) == 1 and b"" not in records.headers:
        (header,) = known.values()
        return np.full(len(records), header.at, np.int64), np.full(len(records), header.history)
    headers = [known.get(header) for header in records.headers]
    pairs = zip(headers, records.timestamps, strict=True)
    arrived = np.array([timestamp if header is None else header.at for header, timestamp in pairs], np.int64)
    return arrived, np.array([header is not None and header.history for header in headers], bool)
