"""A small installation with a ledger, for the tests of the ledger and for the processes that they kill."""

from __future__ import annotations

import sys
from pathlib import Path

from installation import open_world
from sqlalchemy import select

from headrace.engines.context import Context
from headrace.kernel.identity import LOCAL
from headrace.ledger.outbox import record
from headrace.ledger.sequencer import Sequencer
from headrace.ledger.tables import OUTBOX

PREDICTIONS = "fraud/predictions/scoring"


def act(ctx: Context, number: int, *, first: int = 0) -> list[str]:
    """`number` operations, in one transaction."""
    with ctx.catalog.transaction() as connection:
        return [
            record(connection, ctx.system, "registry.approve", f"fraud {n}", {"reason": f"r{n}"}, LOCAL, n)
            for n in range(first, first + number)
        ]


def predict(ctx: Context, number: int, *, first: int = 0) -> None:
    """`number` records of the prediction log."""
    ctx.events.append(PREDICTIONS, 0, [f'["fraud-{n}", {n / 7}]'.encode() for n in range(first, first + number)])


def leaves_of(ctx: Context) -> list[tuple[int, str]]:
    with ctx.catalog.reading() as connection:
        rows = connection.execute(select(OUTBOX.c.leaf, OUTBOX.c.id).order_by(OUTBOX.c.leaf)).all()
    return [(row.leaf, row.id) for row in rows]


def main() -> None:
    """Step for ever; the test kills this process."""
    ctx = open_world(Path(sys.argv[1]))
    sequencer = Sequencer(ctx, digest_after=0.0)
    sequencer.step()
    print("ready", flush=True)
    while True:
        sequencer.step()


if __name__ == "__main__":
    main()
