"""The sequencer turns outbox rows into leaves of the Merkle log, in order and exactly once.

1. New prediction-log records are digested batch by batch (batches.py).
2. Rows without a leaf get the next leaf indices; from here on a leaf's bytes are determined.
3. Their entries and tiles are written: the same bytes however often a crash makes us write them.
4. The checkpoint is signed and published in a transaction that checks that nobody has published in between.
After SIGKILL anywhere, the next step goes on from the published checkpoint. It serves all systems of an installation.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import bindparam, func, select, update

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import CheckFailed
from headrace.kernel.ids import new_id
from headrace.ledger.batches import digest, prediction_topics, whole
from headrace.ledger.entries import entry_of
from headrace.ledger.log import MerkleLog, ledger_row
from headrace.ledger.tables import LEDGER, OUTBOX

LEASE = "ledger/sequencer"
LEASE_SECONDS = 10.0
RETRY_SECONDS = 1.0
ROWS_A_STEP = 8192


class Sequencer:
    """`digest_after` is how many seconds prediction records may wait for their batch to fill. `holder` is who leads: this
    sequencer alone, or `ctx.place` in the one process that has its lock."""

    def __init__(self, ctx: Context, *, digest_after: float = 300.0, holder: str | None = None) -> None:
        self._ctx = ctx
        self._holder = holder or f"{socket.gethostname()}-{os.getpid()}-{new_id()[-8:]}"
        self._leading_until = 0.0
        self._ask_at = 0.0
        self._digest_after = digest_after
        self._covered: dict[str, int] = {}
        self._waiting_since: dict[str, float] = {}
        self._log: MerkleLog | None = None

    def step(self) -> int:
        """Publish what is new and return the number of leaves; 0 too when another process holds the lease.

        CheckFailed when the files do not continue what was published: a damaged or replaced ledger is never extended.
        """
        due = self._due()
        if not due and self._log is not None and not self._pending():
            return 0
        with self._leading() as log:
            if log is None:
                return 0
            for topic, end in due.items():
                self._covered[topic] = digest(self._ctx, topic, end)
                self._waiting_since.pop(topic, None)
            self._assign(log.size)
            return self._publish(log)

    def close(self) -> None:
        """Let another process lead at once."""
        if MACHINE.monotonic() < self._leading_until:
            self._ctx.catalog.lease(LEASE, self._holder, 0.0)
        self._leading_until = self._ask_at = 0.0
        self._log = None

    @contextmanager
    def _leading(self) -> Iterator[MerkleLog | None]:
        """The open log while this sequencer leads, else None. After any failure the log is opened anew."""
        now = MACHINE.monotonic()
        if now >= self._ask_at:
            leads = self._ctx.catalog.lease(LEASE, self._holder, LEASE_SECONDS)
            if not leads or now >= self._leading_until:
                self._log = None
            self._leading_until = now + LEASE_SECONDS if leads else 0.0
            self._ask_at = now + (LEASE_SECONDS / 3 if leads else RETRY_SECONDS)
        if now >= self._leading_until:
            yield None
            return
        log, self._log = self._log or MerkleLog.open(self._ctx), None
        yield log
        self._log = log

    def _pending(self) -> bool:
        with self._ctx.catalog.reading() as connection:
            return connection.execute(select(OUTBOX.c.id).where(OUTBOX.c.leaf.is_(None)).limit(1)).first() is not None

    def _due(self) -> dict[str, int]:
        """Prediction topics with records to digest now, and up to where: whole batches, all when they waited too long."""
        now = MACHINE.monotonic()
        due = {}
        for topic, end in prediction_topics(self._ctx).items():
            covered = self._covered.get(topic, 0)
            if end == covered:
                continue
            since = self._waiting_since.setdefault(topic, now)
            until = end if now - since >= self._digest_after else whole(end)
            if until > covered:
                due[topic] = until
        return due

    def _assign(self, size: int) -> None:
        """Give the rows without a leaf the next indices."""
        with self._ctx.catalog.transaction() as connection:
            last = connection.scalar(select(func.max(OUTBOX.c.leaf)))
            following = max(size, -1 if last is None else last + 1)
            rows = connection.scalars(select(OUTBOX.c.sequence).where(OUTBOX.c.leaf.is_(None)).order_by(OUTBOX.c.sequence))
            places = [{"place": place, "row": sequence} for place, sequence in enumerate(rows, following)]
            if places:
                row = OUTBOX.c.sequence == bindparam("row")
                connection.execute(update(OUTBOX).where(row).values(leaf=bindparam("place")), places)

    def _publish(self, log: MerkleLog) -> int:
        before = log.size
        while True:
            with self._ctx.catalog.reading() as connection:
                rows = connection.execute(
                    select(OUTBOX).where(OUTBOX.c.leaf >= log.size).order_by(OUTBOX.c.leaf).limit(ROWS_A_STEP)
                ).all()
            if not rows:
                return log.size - before
            for index, row in enumerate(rows, log.size):
                if row.leaf != index:
                    raise CheckFailed(
                        f"the outbox record of leaf {index} is missing; the next one found is {row.leaf}",
                        hint="`headrace audit verify` lists what is missing; restore the catalog from a backup",
                    )
            published = log.size
            log.append([entry_of(row) for row in rows])
            note = log.sign()
            with self._ctx.catalog.transaction() as connection:
                known = ledger_row(connection)
                if known is None or known.size != published:
                    raise CheckFailed("another sequencer has published in between", hint="the next step goes on from there")
                log.publish(note)
                connection.execute(update(LEDGER).values(size=log.size, note=note))
