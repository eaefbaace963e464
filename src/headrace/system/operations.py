"""What users can do with the system as a whole."""

from __future__ import annotations

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.system import retraining, settling
from headrace.system.types import Retraining, Settled


@operation("system.settled", permission=Permission.READ, http="GET /settled", cli="settled", found_bad=lambda s: not s.settled)
def settled(ctx: Context, *, timeout: float = 0.0) -> Settled:
    """Wait at most `timeout` seconds until every event is applied and every decision made (virtual clock)."""
    return settling.settled(ctx, timeout)


@operation("retrainings.list", permission=Permission.READ, http="GET /retrainings", cli="retrainings list")
def list_retrainings(ctx: Context) -> list[Retraining]:
    """List the retrainings that the policy began, the newest first, each with its reason and comparison."""
    return retraining.listed(ctx)
