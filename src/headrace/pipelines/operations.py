"""What users can do with pipelines."""

from __future__ import annotations

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.pipelines.runs import pipelines
from headrace.pipelines.types import PipelineStatus


@operation("pipelines.list", permission=Permission.READ, http="GET /pipelines", cli="pipelines list")
def list_pipelines(ctx: Context, *, name: str | None = None) -> list[PipelineStatus]:
    """List the pipelines and the state of each step, the oldest first."""
    return pipelines(ctx, name)
