"""A producer that is killed and started again: each of its batches is in the log once.

A log and a catalog have no transaction in common. So the batch is announced in the catalog, appended under its number, and
noted as appended; whoever finds an announcement without the note looks for the number in the log, from where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from headrace.data.appending import append_raw, appended_at, stream_ends
from headrace.data.tables import STREAM_PRODUCERS
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Fenced
from headrace.kernel.ids import content_hash


class Producer:
    """Appends to one stream under a name of its own; one at a time per name, another is Fenced. `state` (JSON) is what the
    last batch in the log left, None before the first; `offset` is where that batch begins."""

    def __init__(self, ctx: Context, stream: str, name: str) -> None:
        self._ctx, self._stream, self._name = ctx, stream, name
        table = STREAM_PRODUCERS
        self._own = (table.c.system == ctx.system) & (table.c.stream == stream) & (table.c.producer == name)
        with ctx.catalog.reading() as connection:
            row = connection.execute(select(table).where(self._own)).first()
        self._exists = row is not None
        self._sequence = 0 if row is None else int(row.sequence)
        self.state: Any = None if row is None else row.state
        self.offset: int | None = None if row is None else row.offset
        self._several = ctx.specs.get(StreamSpec, stream).partitions > 1
        self._since: list[int] | None = None
        """Where the partitions ended when the announced batch was, which may be in some of them: it is appended again."""
        self._digest = ""
        if row is not None and row.announced_from is not None and self._several:
            self._since, self._digest = row.announced["since"], row.announced["digest"]
        elif row is not None and row.announced_from is not None:
            found = appended_at(ctx, stream, name, self._sequence + 1, row.announced_from)
            if found is not None:
                self._appended(row.announced, found)

    def append(self, values: Sequence[bytes], state: Any, *, history: bool = False) -> int:
        """Append the batch and leave `state` (JSON types), both or none; the offset of its first event. An empty batch
        only leaves the state."""
        ctx = self._ctx
        digest = content_hash(b"\n".join(values)) if self._several else ""
        if digest != self._digest:  # (another batch than the announced one: what is there of that is dropped by its ids)
            self._since = None
        ends = self._since or stream_ends(ctx, self._stream)
        end = ends[0]
        if not values:
            self._write({"state": state, "announced": None, "announced_from": None})
            self.state = state
            return end
        announced = {"state": state, "since": ends, "digest": digest} if self._several else state
        self._write({"announced": announced, "announced_from": end})
        number, since = self._sequence + 1, self._since or ()
        offset = append_raw(ctx, self._stream, values, history=history, producer=self._name, sequence=number, since=since)
        self._appended(state, offset)
        self._since = None
        return offset

    def _appended(self, state: Any, offset: int) -> None:
        number = self._sequence + 1
        self._write({"sequence": number, "state": state, "offset": offset, "announced": None, "announced_from": None})
        self._sequence, self.state, self.offset = number, state, offset

    def _write(self, values: dict[str, Any]) -> None:
        table, changed = STREAM_PRODUCERS, {**values, "changed_at": MACHINE.now()}
        with self._ctx.catalog.transaction() as connection:
            if self._exists:
                same = self._own & (table.c.sequence == self._sequence)
                if connection.execute(table.update().where(same).values(**changed)).rowcount == 0:
                    raise Fenced(f"another process appends to `{self._stream}` as `{self._name}`", hint="it goes on there")
                return
            row = {"system": self._ctx.system, "stream": self._stream, "producer": self._name, "sequence": 0}
            connection.execute(table.insert().values(**row, **changed))
        self._exists = True


def forget_before(ctx: Context, prefix: str, at: int) -> None:
    """Remove the producers whose name begins with `prefix` and that last appended before the machine time `at`."""
    table = STREAM_PRODUCERS
    with ctx.catalog.transaction() as connection:
        own = (table.c.system == ctx.system) & table.c.producer.startswith(prefix, autoescape=True)
        connection.execute(table.delete().where(own & (table.c.changed_at < at)))
