"""The outbox: an audit record enters in the SQL transaction of the act, so neither can exist without the other.

The sequencer turns the rows into leaves of the Merkle log, in order, exactly once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from headrace.kernel.clocks import MACHINE
from headrace.kernel.identity import Principal
from headrace.kernel.ids import new_id
from headrace.ledger.tables import OUTBOX

_encoder = msgspec.json.Encoder(order="deterministic")


def record(
    connection: Connection, system: str, kind: str, subject: str, payload: Mapping[str, Any], actor: Principal, at: int
) -> str:
    """Enter what `actor` did into the outbox and return the record's id, `{system}-op-{32 hex}`.

    `kind` is the operation's name, `subject` what it was done to; `payload` is anything JSON can hold (no secrets: it
    stays for ever); `at` is microseconds of the event clock. TypeError when `payload` cannot be encoded.
    """
    identifier = f"{system}-op-{new_id()}"
    connection.execute(
        OUTBOX.insert().values(
            id=identifier,
            system=system,
            kind=kind,
            subject=subject,
            payload=_encoder.encode(payload).decode(),
            actor_id=actor.id,
            actor_name=actor.name,
            actor_role=actor.role.value,
            at=at,
            machine_at=MACHINE.now(),
        )
    )
    return identifier
