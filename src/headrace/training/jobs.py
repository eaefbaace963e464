"""Work that needs a trainer's libraries runs in a compute child; this is how it is sent there and opened there."""

from __future__ import annotations

import importlib
from typing import Any

from headrace.engines.compute.port import Job
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, EngineUnreachable

LOADER = "headrace.app.child:context"
"""`module:function` that opens the same world in the child, from `Context.child_arguments`. A name, because the
composition root lies above this room."""


def run_in_child(ctx: Context, what: str, entry: str, arguments: dict[str, Any], *, cpus: float = 1) -> Any:
    """Run `entry` in a compute child and return its result. CheckFailed says that `what` failed, with the child's message
    and hint; EngineUnreachable that the child was killed: it may be tried again."""
    job = Job(entry, {**arguments, "loader": LOADER, "context": ctx.child_arguments()}, cpus=cpus)
    result = ctx.compute.result(ctx.compute.submit(job))
    if result.killed:
        raise EngineUnreachable(f"{what} was interrupted: {result.error}", hint="try again")
    if result.state == "failed":
        message, _, hint = result.error.partition("\nhint: ")
        logs = ctx.run_folder / "jobs"
        raise CheckFailed(f"{what} failed: {message}", hint=hint or f"its traceback is in the newest log of `{logs}`")
    return result.value


def open_world(arguments: dict[str, Any]) -> Context:
    """In the child: the world that the job names."""
    module, _, name = arguments["loader"].partition(":")
    context: Context = getattr(importlib.import_module(module), name)(arguments["context"])
    return context
