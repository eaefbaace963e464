"""Small operations for the tests of the shells to send through them."""

from __future__ import annotations

from typing import Any

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import Operation


class Counter:
    """Counts how often its operations ran."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def operation(self, *, changes: bool = True, fails: Exception | None = None) -> Operation:
        def act(ctx: Context, *, name: str, times: int = 1, secret: str | None = None) -> dict[str, Any]:
            """Act."""
            self.calls.append({"name": name, "times": times})
            if fails is not None:
                raise fails
            return {"name": name, "call": len(self.calls), "key": "hr_secret"}

        return Operation("thing.act", act, Permission.RELEASE, changes, "POST /things/{name}", "thing act", None)
