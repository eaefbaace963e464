"""What the contract refused: never lost, listed with its reason, and appended again once it is good."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from headrace.data.appending import append_raw
from headrace.data.contract import contract_of
from headrace.data.identities import IdentityIndex
from headrace.data.types import QuarantineEntry, StreamSpec, Violation
from headrace.engines.context import Context
from headrace.engines.events.port import Records
from headrace.kernel.errors import NotFound
from headrace.kernel.partitions import base_of

OTHER_CONTENT = "the same id came before with other content"
LAST_POSITION = (1 << 62) - 1
"""After every event of every partition."""
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
    """Every record of the quarantine topic in order."""
    topic, offset = ctx.namespace.quarantine(stream), 0
    while (part := ctx.events.read(topic, 0, offset, max_records=_CHUNK)).values:
        yield from map(_decoder.decode, part.values)
        offset = part.next


def refused_offsets(ctx: Context, stream: str) -> dict[int, str]:
    """The positions of all events that were ever refused, each with the rule; a replayed event is accepted at its new
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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    found = document.get(spec.id) if isinstance(document, dict) else None
    return str(found)[:200] if isinstance(found, str | int) else f"offset-{offset}"


def entries(ctx: Context, stream: str) -> list[QuarantineEntry]:
    """The refused events that were not replayed, oldest first. NotFound for an undeclared stream."""
    ctx.specs.get(StreamSpec, stream)
    return [QuarantineEntry(r.id, r.offset, r.field, r.reason, r.value, r.raw) for r in _waiting(ctx, stream)]


def _waiting(ctx: Context, stream: str) -> list[QuarantineRecord]:
    """A process that was replaced in the middle of a step may have refused an event a second time: the first counts."""
    waiting: dict[int, QuarantineRecord | None] = {}
    for record in records(ctx, stream):
        if record.replayed:
            waiting[record.offset] = None
        else:
            waiting.setdefault(record.offset, record)
    return [record for record in waiting.values() if record is not None]


def replay(ctx: Context, stream: str, id: str | None = None) -> dict[str, int]:
    """Check the waiting events (or those with this id) under today's contract and append the good ones to the stream
    again. Returns `{"replayed", "still_bad"}`. NotFound for an unknown stream or id."""
    spec = ctx.specs.get(StreamSpec, stream)
    waiting = _waiting(ctx, stream)
    chosen = [entry for entry in waiting if id is None or entry.id == id]
    if id is not None and not chosen:
        raise NotFound.of("quarantined event", id, (entry.id for entry in waiting[:20]))
    good: list[tuple[int, bytes]] = []
    for entry in chosen:
        content = base64.b64decode(entry.raw) if entry.base64 else entry.raw.encode()  # the log may have dropped it
        if _is_good(ctx, spec, content):
            good.append((entry.offset, content))
    if good:
        append_raw(ctx, stream, [content for _, content in good])
        marks = [msgspec.json.encode(QuarantineRecord(1, offset, replayed=True)) for offset, _ in good]
        ctx.events.append(ctx.namespace.quarantine(stream), 0, marks)
    return {"replayed": len(good), "still_bad": len(chosen) - len(good)}


def _is_good(ctx: Context, spec: StreamSpec, content: bytes) -> bool:
    """Whether the event fulfils the contract now and its id is free, or known with the same content."""
    contract = contract_of(spec)
    frame, refused = contract.decode_batch([content], ctx.clock.now())
    if refused:
        return False
    placed = frame.with_columns(pl.lit(LAST_POSITION, pl.Int64).alias("_offset"))
    return not IdentityIndex(ctx, spec).identify(placed).conflicting.any()
