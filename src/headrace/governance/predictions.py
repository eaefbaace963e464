"""One prediction found again in the prediction logs."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.engines.context import Context
from headrace.serving.types import PredictionRecord, decode_record

CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class LoggedPrediction:
    """The record of the answer and where it stands in the log."""

    topic: str
    offset: int
    record: PredictionRecord


def logged(ctx: Context, id: str) -> LoggedPrediction | None:
    """The record that answered the prediction `id`, else (no answer was given) the newest attempt; None for an unknown id.
    A shadow's record never stands for the answer.

    Reads the logs of the system's services from their ends.
    """
    prefix = ctx.namespace.predictions("")
    for topic in ctx.events.topics():
        if topic.startswith(prefix):
            found = _found(ctx, topic, id)
            if found:
                live = [f for f in found if f.record.role != "shadow"]
                answers = [f for f in live if f.record.error is None]
                return (answers or live or found)[-1]
    return None


def _found(ctx: Context, topic: str, id: str) -> list[LoggedPrediction]:
    """Its records in the newest chunk that has any and the one before, in log order."""
    text = id.encode()
    found: list[LoggedPrediction] = []
    end = ctx.events.end(topic, 0)
    while end > 0:
        start = max(0, end - CHUNK)
        had_some = bool(found)
        records = ctx.events.read(topic, 0, start, max_records=end - start)
        here = [
            LoggedPrediction(topic, offset, record)
            for offset, value in enumerate(records.values, records.first)
            if text in value and (record := decode_record(value)).id == id
        ]
        found = here + found
        if had_some:
            break
        end = start
    return found
