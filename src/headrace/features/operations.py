"""What users can do with features from files alone: without server, data folder and engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.features.join_files import join_files
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation


@operation("features.join", permission=Permission.READ, cli="features join")
def join(ctx: None, *, spec: Path, out: Path) -> dict[str, Any]:
    """Join labels with attribute tables as of each label's time, as a JSON file describes it; write Parquet."""
    return join_files(spec, out)
