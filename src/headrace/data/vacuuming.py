"""Files of the lake that nothing needs any more."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.data.datasets import datasets, table_of_dataset
from headrace.data.history import table_of
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.kernel.log import LOG


@dataclass(frozen=True, slots=True)
class VacuumedTable:
    """A table of the lake, how many of its versions are pinned, and how many files were deleted."""

    table: str
    pinned: int
    deleted: int


def vacuum(ctx: Context, hours: int) -> list[VacuumedTable]:
    """Delete what was given up at least `hours` ago of every stream and dataset of the system: pinned versions and the newest
    of each table stay as they are. InvalidInput below 1 hour: it would take the files of a version that is being written."""
    if hours < 1:
        raise InvalidInput(f"hours={hours}; allowed: 1 or more", hint="24 leaves a day to whoever reads", field="hours")
    pinned: dict[str, list[int]] = {table_of(ctx, spec.name): [] for spec in ctx.specs.all(StreamSpec)}
    for version in datasets(ctx):
        pinned.setdefault(table_of_dataset(ctx, version.name), []).append(version.version)
    done = []
    for table, versions in pinned.items():
        if ctx.lake.version(table) >= 0:
            deleted = ctx.lake.vacuum(table, hours=hours, keep=versions)
            LOG.info("lake.vacuum", table=table, pinned=len(versions), deleted=len(deleted))
            done.append(VacuumedTable(table, len(versions), len(deleted)))
    return done
