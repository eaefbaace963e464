"""A small installation with a ledger, for the tests of the ledger and for the processes that they kill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from sqlalchemy import select

from headrace.engines.blobs.files import FileBlobs
from headrace.engines.catalog.sql import SqlCatalog
from headrace.engines.compute.port import Compute
from headrace.engines.context import Context
from headrace.engines.events.segments import SegmentLog
from headrace.engines.lake.port import Lake
from headrace.engines.online.port import OnlineStore
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.identity import LOCAL
from headrace.kernel.namespace import Namespace
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.ledger.outbox import record
from headrace.ledger.sequencer import Sequencer
from headrace.ledger.tables import OUTBOX

PREDICTIONS = "fraud/predictions/scoring"


def open_world(folder: Path, system: str = "fraud") -> Context:
    """The engines that the ledger uses, the real ones; it touches no other."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return Context(
        settings=Settings(data=data, signing_key=str(folder / "keys" / "signing.key")),
        namespace=Namespace(system),
        specs=Specs(),
        clock=FixedEventClock(1_700_000_000_000_000),
        events=SegmentLog(data / "events"),
        online=cast(OnlineStore, None),
        lake=cast(Lake, None),
        blobs=FileBlobs(data / "blobs"),
        catalog=SqlCatalog(f"sqlite:///{data / 'catalog.sqlite'}"),
        compute=cast(Compute, None),
    )


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
    print("ready", flush=True)
    while True:
        sequencer.step()


if __name__ == "__main__":
    main()
