"""Fencing: of two processes that take themselves for the applier of a partition, only the later one can write."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.engines.context import Context
from headrace.kernel.errors import Fenced
from headrace.kernel.ids import new_id


class Fence:
    """Taken when a partition is taken over; every online write of the partition demands that it is still the last one. What
    is written in the lake and the catalog is fenced by the positions that are stored with it."""

    def __init__(self, ctx: Context, stream: str, partition: int) -> None:
        self._online = ctx.online
        self._what = f"partition {partition} of stream `{stream}`"
        self._key = ctx.namespace.name("fence", stream, str(partition)).encode()
        self.expected: Mapping[bytes, bytes] = {self._key: new_id().encode()}
        ctx.online.write(dict(self.expected))

    def write(self, changes: Mapping[bytes, bytes | None], also: Mapping[bytes, bytes | None] | None = None) -> bool:
        """Write all at once, unless a key of `also` has another value (False). Fenced when the partition is another's."""
        if self._online.write_if(changes, {**self.expected, **(also or {})}):
            return True
        self.check()
        return False

    def check(self) -> None:
        """Fenced when another process has taken over."""
        if self._online.get(self._key) != self.expected[self._key]:
            raise Fenced(f"{self._what} was taken over by another process", hint="it goes on there")


def fence_out(ctx: Context) -> None:
    """Whoever has taken a partition of any stream so far writes nothing of it any more."""
    taken = [key for key, _ in ctx.online.scan(ctx.namespace.name("fence", "").encode())]
    ctx.online.write(dict.fromkeys(taken, new_id().encode()))
