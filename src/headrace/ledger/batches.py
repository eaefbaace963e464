"""Digests of prediction batches: a leaf commits to consecutive records of a prediction log by their Merkle root.

A batch ends where the next multiple of RECORDS_A_BATCH begins, whoever digests and when, so that the same predictions
make the same leaves; only what could not wait ends one earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import Connection, func, select

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.kernel.identity import SYSTEM
from headrace.ledger.entries import PREDICTIONS, batch_tree
from headrace.ledger.outbox import record
from headrace.ledger.tables import BATCHES

RECORDS_A_BATCH = 4096


class Batch(msgspec.Struct, frozen=True, rename={"first": "from"}):
    """Records `first` .. `to - 1` of `topic`; `digest` is the hex root over them."""

    topic: str
    first: int
    to: int
    digest: str


class _Entry(msgspec.Struct):
    id: str
    kind: str
    payload: msgspec.Raw


_entries = msgspec.json.Decoder(_Entry)
_batches = msgspec.json.Decoder(Batch)


def prediction_topics(ctx: Context) -> dict[str, int]:
    """The prediction logs of every system, and their ends."""
    topics = sorted(topic for topic in ctx.events.topics() if topic.split("/")[1:2] == ["predictions"])
    return {topic: ctx.events.end(topic, 0) for topic in topics}


def whole(end: int) -> int:
    """How many of `end` records are in full batches."""
    return end // RECORDS_A_BATCH * RECORDS_A_BATCH


def digest(ctx: Context, topic: str, end: int) -> int:
    """Digest the records before `end` that no batch covers: one outbox row a batch, in the transaction that notes which
    are covered. Any process may do it. Returns the end of what is covered. CheckFailed when records are missing.
    """
    ctx.events.append(topic, 0, [], sync=True)  # what is covered must not be lost to a power failure
    with ctx.catalog.reading() as connection:
        first = _covered(connection, topic)
    while first < end:
        following = min(whole(first) + RECORDS_A_BATCH, end)
        values = records(ctx, topic, first, following)
        if len(values) < following - first:
            raise CheckFailed(
                f"records {first + len(values)} to {following - 1} of `{topic}` are missing",
                hint="restore the event log from a backup",
            )
        payload = {"topic": topic, "from": first, "to": following, "digest": batch_tree(values).root().hex()}
        system = topic.partition("/")[0]
        with ctx.catalog.transaction() as connection:
            if _covered(connection, topic) == first:
                identifier = record(connection, system, PREDICTIONS, topic, payload, SYSTEM, ctx.clock.now())
                connection.execute(
                    BATCHES.insert().values(system=system, topic=topic, first=first, next=following, outbox=identifier)
                )
            first = _covered(connection, topic)
    return first


def _covered(connection: Connection, topic: str) -> int:
    return connection.scalar(select(func.max(BATCHES.c.next)).where(BATCHES.c.topic == topic)) or 0


def records(ctx: Context, topic: str, first: int, end: int) -> list[bytes]:
    """The records `first` .. `end - 1`; fewer when the rest is missing."""
    values: list[bytes] = []
    while len(values) < end - first:
        read = ctx.events.read(topic, 0, first + len(values), max_records=end - first - len(values)).values
        if not read:
            break
        values += read
    return values


def batches_of(entries: Sequence[bytes]) -> Iterator[tuple[int, str, Batch]]:
    """(leaf index, id, batch) of every entry that commits to predictions."""
    mark = f'"kind":"{PREDICTIONS}"'.encode()
    for index, entry in enumerate(entries):
        if mark in entry:
            try:
                decoded = _entries.decode(entry)
                if decoded.kind == PREDICTIONS:
                    yield index, decoded.id, _batches.decode(decoded.payload)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


def check_batches(ctx: Context, entries: Sequence[bytes]) -> list[tuple[int | None, str, str]]:
    """(leaf index, id, why) of every batch whose records were changed, removed, or follow no other batch."""
    bad: list[tuple[int | None, str, str]] = []
    covered: dict[str, int] = {}
    for index, identifier, batch in batches_of(entries):
        where = f"prediction records {batch.first} to {batch.to - 1} of `{batch.topic}`"
        if batch.first != covered.get(batch.topic, 0):
            bad.append((index, identifier, f"{where} do not follow the batch before"))
        covered[batch.topic] = batch.to
        why = _problem(ctx, batch)
        if why:
            bad.append((index, identifier, f"{where} {why}"))
    return bad


def _problem(ctx: Context, batch: Batch) -> str:
    wanted = batch.to - batch.first
    try:
        values = records(ctx, batch.topic, batch.first, batch.to)
    except (CheckFailed, InvalidInput) as error:
        return f"cannot be read: {error.message}"
    if len(values) < wanted:
        return f"are cut: {len(values)} of {wanted} are left"
    return "" if batch_tree(values).root().hex() == batch.digest else "were changed"
