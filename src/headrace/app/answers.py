"""Answers by idempotency key: the key is claimed before an operation acts and keeps the answer once it has acted, each in the
transaction of its audit record. So a retry never acts twice, whenever the process was killed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.sql import ColumnElement

from headrace.app.tables import answers
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict
from headrace.kernel.times import DAY, format_time

KEPT = 7 * DAY
"""Machine-clock microseconds for which a key is remembered."""
_UNANSWERED = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's idempotency key for an operation; `digest` is the hash of the arguments it came with."""

    system: str
    principal: str
    operation: str
    key: str
    digest: str

    def stored(self, connection: Connection) -> str | None:
        """The first answer (JSON), None when the key is new. Conflict when it was used with other arguments, and when the
        process died over it: then nobody knows whether it has acted."""
        row = connection.execute(answers.select().where(self._mine())).first()
        if row is None:
            return None
        if row.arguments_hash != self.digest:
            raise Conflict(
                f"the idempotency key `{self.key}` was used for `{self.operation}` with other arguments",
                hint="use a new key for a new request",
            )
        if row.result == _UNANSWERED:
            raise Conflict(
                f"the request with the idempotency key `{self.key}` began at {format_time(row.at)} and was cut off before its "
                f"end was recorded: `{self.operation}` may have been done or not",
                hint="look whether it was done; if not, send it again with a new key",
            )
        return str(row.result)

    def take(self, connection: Connection) -> None:
        """Claim the key; those that are too old are forgotten."""
        now = MACHINE.now()
        connection.execute(answers.delete().where((answers.c.system == self.system) & (answers.c.at < now - KEPT)))
        connection.execute(
            answers.insert().values(
                system=self.system,
                principal=self.principal,
                operation=self.operation,
                idempotency_key=self.key,
                arguments_hash=self.digest,
                result=_UNANSWERED,
                at=now,
            )
        )

    def keep(self, connection: Connection, result: str) -> None:
        """Remember the answer (JSON)."""
        connection.execute(answers.update().where(self._mine()).values(result=result, at=MACHINE.now()))

    def release(self, connection: Connection) -> None:
        """Forget the key of an operation that failed: a retry tries again."""
        connection.execute(answers.delete().where(self._mine()))

    def _mine(self) -> ColumnElement[bool]:
        return (
            (answers.c.system == self.system)
            & (answers.c.principal == self.principal)
            & (answers.c.operation == self.operation)
            & (answers.c.idempotency_key == self.key)
        )
