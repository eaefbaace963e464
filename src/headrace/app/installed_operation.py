"""An operation of the command line in a data folder of this machine."""

from __future__ import annotations

from typing import Any

from headrace.app.invoke import invoke
from headrace.app.progress_bar import progress_bar
from headrace.app.stopping import stopped_by_sigterm
from headrace.app.world import installed
from headrace.kernel.identity import LOCAL
from headrace.kernel.ids import new_id
from headrace.kernel.operation import Operation
from headrace.kernel.settings import Settings


def run_installed(
    settings: Settings, system: str | None, operation: Operation, arguments: dict[str, Any], *, create: bool
) -> Any:
    """The result of the operation for the local user; it shows its progress, and SIGTERM ends it as Ctrl-C does."""
    ctx = installed(settings, system, create=create)
    try:
        with stopped_by_sigterm(), progress_bar():
            return invoke(ctx.acting(LOCAL, new_id()), operation, arguments)
    finally:
        ctx.close()
