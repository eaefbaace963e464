"""The prediction log of one service: written before the reply, made durable each second, its tail remembered.

`write(2)` makes a record survive SIGKILL of the process; only power loss can lose the last second.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.engines.events.port import EventLog
from headrace.serving.types import PredictionRecord, decode_record

FORMAT = 1
REMEMBERED = 100_000
"""At least so many of the newest answers are known again when a client retries; at most twice as many."""

_encode = msgspec.msgpack.Encoder().encode


class PredictionLog:
    """Appends records and finds the answer that a retry asks for.

    The index maps a prediction id to the offset of the record that answered; it is rebuilt from the last `remembered`
    records at start. Requests without a key are not remembered. A retry of an older request is a new record with the same id.
    """

    def __init__(self, events: EventLog, topic: str, *, remembered: int = REMEMBERED) -> None:
        self._events = events
        self.topic = topic
        self._remembered = remembered
        self._newer: dict[str, int] = {}
        self._older: dict[str, int] = {}
        events.create(topic)
        self._rebuild()

    def append(self, records: Sequence[PredictionRecord]) -> int:
        """Write the records in order as one batch and return the offset of the first."""
        first = self._events.append(self.topic, 0, [_encode(record) for record in records], sync=False)
        for offset, record in enumerate(records, first):
            self._remember(offset, record)
        return first

    def answered(self, id: str) -> PredictionRecord | None:
        """The record that answered the prediction `id`, if it is among the remembered."""
        offset = self._newer.get(id)
        if offset is None:
            offset = self._older.get(id)
        if offset is None:
            return None
        return decode_record(self._events.read(self.topic, 0, offset, max_records=1).values[0])

    def sync(self) -> None:
        """Make everything appended so far durable; blocks for the fsync, any thread may call it."""
        self._events.append(self.topic, 0, [], sync=True)

    @property
    def end(self) -> int:
        return self._events.end(self.topic, 0)

    def _remember(self, offset: int, record: PredictionRecord) -> None:
        if not record.request_key or record.error is not None or record.role == "shadow":
            return
        self._newer[record.id] = offset
        if len(self._newer) >= self._remembered:
            self._older, self._newer = self._newer, {}

    def _rebuild(self) -> None:
        offset, end = max(0, self.end - self._remembered), self.end
        while offset < end:
            records = self._events.read(self.topic, 0, offset)
            for place, value in enumerate(records.values, records.first):
                self._remember(place, decode_record(value))
            offset = records.next
