"""Refused events appended to their stream again, as they are or mended: each once, whatever is killed when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import polars as pl

from headrace.data.contract import contract_of
from headrace.data.identities import IdentityIndex
from headrace.data.producing import Producer
from headrace.data.quarantine import OTHER_CONTENT, Chosen, QuarantineRecord, content_of, mark_replayed, waiting
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput, NotFound
from headrace.pipelines.claims import Claim

BATCH = 8192
LAST_POSITION = (1 << 62) - 1
"""After every event of every partition."""
_PRODUCER = "quarantine"


def replay(ctx: Context, stream: str, chosen: Chosen = Chosen()) -> dict[str, int]:  # noqa: B008  (it is frozen)
    """Check the waiting events that are chosen under today's contract and append the good ones to the stream again. Returns
    `{"replayed", "still_bad"}`. NotFound for an unknown stream or id, Conflict while another replay runs."""
    spec = ctx.specs.get(StreamSpec, stream)
    with _replaying(ctx, stream) as producer:
        records = sorted(waiting(ctx, stream), key=lambda record: record.offset)
        taken = [record for record in records if chosen.takes(record)][: chosen.limit]
        if chosen.id is not None and not taken:
            raise NotFound.of("quarantined event", chosen.id, (record.id for record in records[:20]))
        replayed = 0
        for start in range(0, len(taken), BATCH):
            part = taken[start : start + BATCH]
            reasons = _reasons(ctx, spec, [content_of(record) for record in part])
            good = [record for record, reason in zip(part, reasons, strict=True) if reason is None]
            _append(ctx, stream, producer, [content_of(record) for record in good], good)
            replayed += len(good)
    return {"replayed": replayed, "still_bad": len(taken) - replayed}


def fix(ctx: Context, stream: str, id: str, event: dict[str, Any], *, offset: int | None = None) -> dict[str, int]:
    """Append `event` in place of the waiting one with this id (and position, when several have the id). What came first stays
    in the quarantine topic. InvalidInput with the reason when the contract refuses it too; otherwise as `replay`."""
    spec = ctx.specs.get(StreamSpec, stream)
    with _replaying(ctx, stream) as producer:
        records = waiting(ctx, stream)
        taken = [record for record in records if record.id == id and offset in (None, record.offset)]
        if not taken:
            raise NotFound.of("quarantined event", id, (record.id for record in records[:20]))
        if len(taken) > 1:
            offsets = ", ".join(str(record.offset) for record in taken)
            raise InvalidInput(
                f"{len(taken)} events of `{stream}` wait with the id `{id}`", hint=f"name one by its offset: {offsets}"
            )
        content = msgspec.json.encode(event)
        (reason,) = _reasons(ctx, spec, [content])
        if reason is not None:
            raise InvalidInput(f"the mended event is refused too: {reason}", hint="mend the field that is named")
        _append(ctx, stream, producer, [content], taken)
    return {"replayed": 1, "still_bad": 0}


@contextmanager
def _replaying(ctx: Context, stream: str) -> Iterator[Producer]:
    """One replay of a stream at a time; what an interrupted one has appended is noted first."""
    with Claim(ctx.run_folder / "claims", "replay", stream).held(f"another replay of `{stream}` runs"):
        producer = Producer(ctx, stream, _PRODUCER)
        appended = set(producer.state["replayed"]) if producer.state else set()
        open_ = sorted(appended & {record.offset for record in waiting(ctx, stream)}) if appended else []
        if open_:
            mark_replayed(ctx, stream, open_)
        yield producer


def _append(
    ctx: Context, stream: str, producer: Producer, events: Sequence[bytes], replayed: Sequence[QuarantineRecord]
) -> None:
    if events:
        offsets = [record.offset for record in replayed]
        producer.append(events, {"replayed": offsets})
        mark_replayed(ctx, stream, offsets)


def _reasons(ctx: Context, spec: StreamSpec, contents: Sequence[bytes]) -> list[str | None]:
    """Why each event is refused today; None for one that fulfils the contract and whose id is free, or known with the same
    content."""
    frame, refused = contract_of(spec).decode_batch(contents, ctx.clock.now())
    reasons: list[str | None] = [None] * len(contents)
    for place, violation in refused:
        reasons[place] = f"`{violation.field}` {violation.reason}" if violation.field else violation.reason
    places = frame["_index"].to_list()
    placed = frame.with_columns((pl.col("_index") + (LAST_POSITION - len(contents))).alias("_offset"))
    conflicting = IdentityIndex(ctx, spec).identify(placed).conflicting
    for place, conflicts in zip(places, conflicting.tolist(), strict=True):
        if conflicts:
            reasons[place] = f"`{spec.id}` {OTHER_CONTENT}"
    return reasons
