"""Each process of a running system follows what was adopted (`headrace reload`): it exchanges its declarations, at once."""

from __future__ import annotations

from headrace.engines.context import Context
from headrace.kernel.specs import Specs
from headrace.registry.declarations import running
from headrace.system.taking import take

FOLLOW_SECONDS = 0.2


class Following:
    """The declarations of one process. `ctx` and every copy of it see the new ones from the next look-up on."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._changes = -1

    def newer(self) -> Specs | None:
        """What was adopted since, None for nothing. To be called from any thread."""
        changes = self._ctx.catalog.changes()
        if changes == self._changes:
            return None
        found = running(self._ctx)
        self._changes = changes
        return None if found is self._ctx.specs else found

    def take(self, specs: Specs) -> None:
        """Declare these from now on."""
        take(self._ctx, specs)

    def step(self) -> None:
        """Take what was adopted."""
        found = self.newer()
        if found is not None:
            self.take(found)
