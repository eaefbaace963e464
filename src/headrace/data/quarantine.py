"""What the contract refused: kept as long as the stream says, and listed with its reason."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.data.json_fields import UNREADABLE
from headrace.data.types import QuarantineEntry, StreamSpec, Violation
from headrace.engines.context import Context
from headrace.engines.events.port import Records
from headrace.kernel.errors import InvalidInput
from headrace.kernel.partitions import base_of, partition_of

OTHER_CONTENT = "the same id came before with other content"
_CHUNK = 65_536


class QuarantineRecord(msgspec.Struct, omit_defaults=True):
    """One record of the quarantine topic. `offset` is the event's place in its stream. With `replayed` it only says that
    the event was appended again."""

    format: int
    offset: int
    id: str = ""
    field: str | None = None
    reason: str = ""
    value: str = ""
    raw: str = ""
    base64: bool = False
    rule: str = ""
    replayed: bool = False


_decoder = msgspec.json.Decoder(QuarantineRecord)


def records(ctx: Context, stream: str) -> Iterator[QuarantineRecord]:
    """Every kept record of the quarantine topic in order."""
    for _, _, record in _placed(ctx, stream):
        yield record


def _placed(ctx: Context, stream: str) -> Iterator[tuple[int, int, QuarantineRecord]]:
    """The kept records with their offset in the quarantine topic and the machine-clock time of their append."""
    topic = ctx.namespace.quarantine(stream)
    offset = ctx.events.first(topic, 0)
    while (part := ctx.events.read(topic, 0, offset, max_records=_CHUNK)).values:
        yield from zip(range(part.first, part.next), part.timestamps, map(_decoder.decode, part.values), strict=True)
        offset = max(part.next, ctx.events.first(topic, 0))


def retain(ctx: Context, spec: StreamSpec, older_than: int) -> int:
    """Drop the records appended before `older_than` (machine-clock microseconds), none of an event that the log of the stream
    still has: who reads that again must know it as refused. Returns how many went."""
    topic = ctx.namespace.quarantine(spec.name)
    before = needed = ctx.events.first(topic, 0)
    kept = [base_of(p) + ctx.events.first(ctx.namespace.stream(spec.name), p) for p in range(spec.partitions)]
    for offset, appended, record in _placed(ctx, spec.name):
        if appended >= older_than or record.offset >= kept[partition_of(record.offset)]:
            break
        needed = offset + 1
    return ctx.events.retain(topic, 0, needed, older_than=older_than) - before


def refused_offsets(ctx: Context, stream: str) -> dict[int, str]:
    """The positions of all refused events that retention keeps, each with the rule; a replayed event is accepted at its new
    position."""
    return {record.offset: record.rule for record in records(ctx, stream) if not record.replayed}


def add(ctx: Context, spec: StreamSpec, raw: Records, refused: Sequence[tuple[int, Violation]], partition: int = 0) -> None:
    """Append the refused events, all or none, by their positions. `raw` holds them by their offsets in the partition."""
    values = []
    for offset, violation in refused:
        content = raw.values[offset - base_of(partition) - raw.first]
        text, is_base64 = _text(content)
        entry = QuarantineRecord(
            1,
            offset,
            _event_id(spec, content, offset),
            violation.field,
            violation.reason,
            violation.value,
            text,
            is_base64,
            violation.broken,
        )
        values.append(msgspec.json.encode(entry))
    if values:
        ctx.events.append(ctx.namespace.quarantine(spec.name), 0, values)


def _text(content: bytes) -> tuple[str, bool]:
    try:
        return content.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(content).decode(), True


def _event_id(spec: StreamSpec, content: bytes, offset: int) -> str:
    """The event's own id when it can be read, else `offset-N`."""
    try:
        document: Any = msgspec.json.decode(content)
    except UNREADABLE:
        document = None
    found = document.get(spec.id) if isinstance(document, dict) else None
    return str(found)[:200] if isinstance(found, str | int) else f"offset-{offset}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of the waiting events: `reason` is part of the reason, `rule` the whole name of the rule (`amount.range`), `after`
    the position behind which to begin, `limit` how many at most."""

    id: str | None = None
    reason: str | None = None
    field: str | None = None
    rule: str | None = None
    after: int | None = None
    limit: int | None = None

    def takes(self, record: QuarantineRecord) -> bool:
        return (
            (self.id is None or record.id == self.id)
            and (self.reason is None or self.reason.lower() in record.reason.lower())
            and (self.field is None or record.field == self.field)
            and (self.rule is None or record.rule == self.rule)
            and (self.after is None or record.offset > self.after)
        )


def entries(ctx: Context, stream: str, chosen: Chosen = Chosen()) -> list[QuarantineEntry]:
    """The refused events that were not replayed, by position. NotFound for an undeclared stream, InvalidInput for a limit
    below 1."""
    ctx.specs.get(StreamSpec, stream)
    if chosen.limit is not None and chosen.limit < 1:
        raise InvalidInput(f"limit={chosen.limit}; allowed: 1 or more", hint="leave it out for all", field="limit")
    found = sorted((r for r in waiting(ctx, stream) if chosen.takes(r)), key=lambda record: record.offset)
    return [QuarantineEntry(r.id, r.offset, r.field, r.reason, r.value, r.raw) for r in found[: chosen.limit]]


def waiting(ctx: Context, stream: str) -> list[QuarantineRecord]:
    """The records of the events that were not replayed. A process that was replaced in the middle of a step may have refused
    an event a second time: the first counts."""
    found: dict[int, QuarantineRecord | None] = {}
    for record in records(ctx, stream):
        if record.replayed:
            found[record.offset] = None
        else:
            found.setdefault(record.offset, record)
    return [record for record in found.values() if record is not None]


def content_of(record: QuarantineRecord) -> bytes:
    """The event as it came; the log of its stream may have dropped it."""
    return base64.b64decode(record.raw) if record.base64 else record.raw.encode()


def mark_replayed(ctx: Context, stream: str, offsets: Sequence[int]) -> None:
    """Note that the events at these positions were appended again."""
    marks = [msgspec.json.encode(QuarantineRecord(1, offset, replayed=True)) for offset in offsets]
    ctx.events.append(ctx.namespace.quarantine(stream), 0, marks)
