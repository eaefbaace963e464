"""Digests of prediction batches: a leaf commits to consecutive records of a prediction log by their Merkle root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.ledger.entries import PREDICTIONS, batch_tree


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
    values: list[bytes] = []
    try:
        while len(values) < wanted:
            read = ctx.events.read(batch.topic, 0, batch.first + len(values), max_records=wanted - len(values))
            if not read.values:
                break
            values += read.values
    except (CheckFailed, InvalidInput) as error:
        return f"cannot be read: {error.message}"
    if len(values) < wanted:
        return f"are cut: {len(values)} of {wanted} are left"
    return "" if batch_tree(values).root().hex() == batch.digest else "were changed"
