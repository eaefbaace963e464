"""Passing the accepted events of a stream on to the topics of the views by something else than its key.

A record holds some events of one source partition (an Arrow stream, empty for none); its header says which positions of the
source it stands for, so that whoever reads it drops what was passed on before and sees what is missing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import msgspec
import polars as pl

from headrace.data.applying import AppliedBatch
from headrace.data.positions import position
from headrace.data.recalling import fill_later_fields
from headrace.data.records import event_schema
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.routes import RekeyedTopic
from headrace.kernel.partitions import base_of

ROWS = 16_384
"""Events of one record at most."""


class Passed(msgspec.Struct, frozen=True):
    """The header: all events of the stream at positions `after` .. `end - 1`, which lie in one partition, are in this record
    or are none of this topic's partition. `rows` is their number."""

    stream: str
    after: int
    end: int
    rows: int
    report: bool = False


decode_header = msgspec.json.Decoder(Passed).decode


def decode_events(spec: StreamSpec, value: bytes) -> pl.DataFrame:
    """The events of a record (`records.event_schema`) with the fields as they are declared now."""
    frame, schema = pl.read_ipc_stream(io.BytesIO(value)), event_schema(spec)
    absent = [pl.lit(None, schema[name]).alias(name) for name in schema.names() if name not in frame.columns]
    return fill_later_fields(spec, frame.with_columns(absent).select(schema.names()))


def _encoded(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4" if len(frame) > 1024 else "uncompressed")
    return buffer.getvalue()


class Forwarder:
    """The sink of one partition of a stream. What is passed on is in the topics before the position in the catalog says that
    it is applied, so that a step which is done again passes it on again, at least once; the topics are not synced: what a
    power failure takes from them is seen by its reader, who takes it from the history.

    At its start it says where it goes on. Its reader sees then what was never passed on: before a topic was there."""

    def __init__(self, ctx: Context, spec: StreamSpec, partition: int, topics: Sequence[RekeyedTopic]) -> None:
        self._events = ctx.events
        self._spec = spec
        self._topics = [topic for topic in topics if spec.name == topic.stream or spec.name in topic.reports]
        self._next = base_of(partition) + position(ctx, spec.name, partition).next_offset
        self._columns = event_schema(spec).names()
        for topic in self._topics:
            ctx.events.create(topic.name, topic.route.partitions)
        self._pass_on(event_schema(spec).to_frame(), self._next)

    def __call__(self, batch: AppliedBatch) -> None:
        if self._topics:
            frame = batch.frame.select(self._columns)
            for first in range(ROWS, len(frame), ROWS):
                self._pass_on(frame[first - ROWS : first], int(frame["_offset"][first]))
            self._pass_on(frame[(len(frame) - 1) // ROWS * ROWS :] if len(frame) else frame, batch.next_offset)
        self._next = batch.next_offset

    def _pass_on(self, frame: pl.DataFrame, end: int) -> None:
        for topic in self._topics:
            if self._spec.name == topic.stream:
                keyed = frame.drop_nulls(topic.route.columns) if topic.route.columns else frame
                partitions = topic.route.partitions_of(keyed)
                for number in range(topic.route.partitions):
                    self._append(topic, number, keyed.filter(pl.Series(partitions == number, dtype=pl.Boolean)), end)
            if self._spec.name in topic.reports:
                for number in range(topic.route.partitions):
                    self._append(topic, number, frame, end, report=True)
        self._next = end

    def _append(self, topic: RekeyedTopic, number: int, frame: pl.DataFrame, end: int, *, report: bool = False) -> None:
        header = msgspec.json.encode(Passed(self._spec.name, self._next, end, len(frame), report))
        value = _encoded(frame) if len(frame) else b""
        self._events.append(topic.name, number, [value], headers=[header], sync=False)
