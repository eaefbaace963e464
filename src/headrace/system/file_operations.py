"""What users can do with a system file and files of events alone: without server, data folder and engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.features.backfill_files import backfill_files
from headrace.features.memory_budget import check_memory
from headrace.kernel.errors import UsageError
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.system.load import load_system


@operation("features.backfill", permission=Permission.READ, cli="features backfill")
def backfill(
    ctx: None, *, file: str, stream: list[str], spine: str, out: Path, order_by: str | None = None,
    features: str | None = None, memory: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compute features from files of events alone: one row per event of the spine, in arrival order.

    FILE is the system file; `--stream NAME=PATH` gives each stream's events; `--features a,b` chooses among the views
    and functions. Writes Parquet with key, time and the features. `--memory 4GB` is what it may take, by default half of
    the machine's, at least 350MB: a larger backfill goes through files beside OUT.
    """
    check_memory(memory)
    paths = {}
    for given in stream:
        name, equals, path = given.partition("=")
        if not equals or not path:
            raise UsageError(f"`--stream {given}` is not NAME=PATH", hint="write --stream payments=payments.parquet")
        paths[name] = Path(path)
    chosen = None if features is None else [name.strip() for name in features.split(",") if name.strip()]
    specs = load_system(file).specs()
    return backfill_files(specs, paths, spine=spine, order_by=order_by, features=chosen, memory=memory, out=out)
