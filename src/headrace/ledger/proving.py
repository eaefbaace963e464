"""Inclusion proofs: that a leaf, or one prediction record, is in the log that the checkpoint signs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import func, select

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import CheckFailed, EngineUnreachable, NotFound
from headrace.ledger.batches import digest, prediction_topics, records
from headrace.ledger.checkpoint import parse_note
from headrace.ledger.entries import batch_tree
from headrace.ledger.log import CHECKPOINT, audit_folder
from headrace.ledger.merkle import inclusion_proof, leaf_hash, root_of_inclusion
from headrace.ledger.sequencer import LEASE_SECONDS, Sequencer
from headrace.ledger.tables import BATCHES, LEDGER, OUTBOX
from headrace.ledger.tiles import WIDTH, TileFolder


@dataclass(frozen=True, slots=True)
class RecordProof:
    """That record `offset` of `topic` is record `index` of the `size` records whose Merkle root is `root`, the digest
    in the leaf. `leaf` is the RFC 6962 leaf hash of the record as logged. Hashes are hex."""

    topic: str
    offset: int
    index: int
    size: int
    leaf: str
    root: str
    proof: list[str]


@dataclass(frozen=True, slots=True)
class Proof:
    """That `entry` is leaf `index` of the log of `tree_size` leaves with this `root`; `proof` goes from the leaf's
    sibling up. `record` leads from one prediction to the digest in the entry. Hashes are hex."""

    index: int
    leaf: str
    tree_size: int
    root: str
    proof: list[str]
    entry: str
    record: RecordProof | None = None


def published(ctx: Context) -> str:
    """The signed checkpoint (a note), after everything that is recorded by now has entered the log.

    Steps the log itself when nobody else leads; else it waits for the leader. EngineUnreachable when that takes longer
    than a dead leader's lease.
    """
    for topic, end in prediction_topics(ctx).items():
        digest(ctx, topic, end)
    with ctx.catalog.reading() as connection:
        last = connection.scalar(select(func.max(OUTBOX.c.sequence))) or 0
    sequencer = Sequencer(ctx)
    until = MACHINE.monotonic() + LEASE_SECONDS + 2
    try:
        while True:
            sequencer.step()
            if _is_published(ctx, last):
                return (audit_folder(ctx.settings) / CHECKPOINT).read_text()
            if MACHINE.monotonic() > until:
                raise EngineUnreachable("the ledger does not grow", hint="see the log of the running headrace")
            MACHINE.sleep(0.05)
    finally:
        sequencer.close()


def _is_published(ctx: Context, last: int) -> bool:
    """Whether the outbox rows up to `last` are under the published checkpoint."""
    with ctx.catalog.reading() as connection:
        size = connection.scalar(select(LEDGER.c.size).where(LEDGER.c.note != ""))
        if size is None:
            return False
        for waiting in (OUTBOX.c.leaf.is_(None), OUTBOX.c.leaf >= size):
            if connection.execute(select(OUTBOX.c.id).where(waiting, OUTBOX.c.sequence <= last).limit(1)).first():
                return False
    return True


def prove_operation(ctx: Context, id: str) -> Proof:
    """The proof of the outbox record `id`; NotFound when there is none."""
    published(ctx)
    with ctx.catalog.reading() as connection:
        leaf = connection.scalar(select(OUTBOX.c.leaf).where(OUTBOX.c.id == id, OUTBOX.c.system == ctx.system))
    if leaf is None:
        raise NotFound(f"no audit record has the id `{id}`", hint="give the id of an audit record or of a prediction")
    return _prove_leaf(ctx, leaf)


def prove_record(ctx: Context, topic: str, offset: int) -> Proof:
    """The proof of one record of a prediction log, through the digest of its batch."""
    published(ctx)
    with ctx.catalog.reading() as connection:
        batch = connection.execute(
            select(BATCHES.c.first, BATCHES.c.next, OUTBOX.c.leaf)
            .join(OUTBOX, OUTBOX.c.id == BATCHES.c.outbox)
            .where(BATCHES.c.topic == topic, BATCHES.c.first <= offset, BATCHES.c.next > offset)
        ).first()
    if batch is None:
        raise NotFound(f"no record {offset} of `{topic}` is in the ledger", hint="`headrace audit verify` says what is wrong")
    values = records(ctx, topic, batch.first, batch.next)
    if len(values) < batch.next - batch.first:
        raise NotFound(f"records of `{topic}` are missing", hint="`headrace audit verify` says which")
    tree, index = batch_tree(values), offset - batch.first
    record = RecordProof(
        topic=topic,
        offset=offset,
        index=index,
        size=tree.size,
        leaf=leaf_hash(values[index]).hex(),
        root=tree.root().hex(),
        proof=[digest.hex() for digest in inclusion_proof(index, tree.size, tree.node)],
    )
    return replace(_prove_leaf(ctx, batch.leaf), record=record)


def _prove_leaf(ctx: Context, index: int) -> Proof:
    """CheckFailed when the files do not lead to the signed root: a proof that proves nothing is not handed out."""
    tiles = TileFolder(audit_folder(ctx.settings))
    checkpoint = parse_note((tiles.folder / CHECKPOINT).read_text())[0]
    size = checkpoint.size
    width = min(WIDTH, size - index // WIDTH * WIDTH)
    entry = tiles.entries(index // WIDTH, width)[index % WIDTH]
    proof = inclusion_proof(index, size, lambda level, at: tiles.node(size, level, at))
    if root_of_inclusion(leaf_hash(entry), index, size, proof) != checkpoint.root:
        raise CheckFailed(f"the files of the ledger do not prove leaf {index} of {size}: they are damaged",
                          hint="`headrace audit verify` lists what is wrong; restore a backup")  # fmt: skip
    return Proof(
        index=index,
        leaf=leaf_hash(entry).hex(),
        tree_size=size,
        root=checkpoint.root.hex(),
        proof=[digest.hex() for digest in proof],
        entry=entry.decode(),
    )
