"""Whether the parts of a data folder fit together: blobs, logs and audit files against what the catalog says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import select

from headrace.app.world import KnownSystem, world
from headrace.data.tables import STREAM_POSITIONS
from headrace.engines.context import Context
from headrace.engines.open import open_catalog
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.ledger.log import RESTORE, check_published
from headrace.registry.tables import VERSIONS
from headrace.training.tables import ARTIFACTS

HASHING_SECONDS = 1.5
"""Blobs are read and hashed, versions newest first, for no longer than this; of the rest it is seen that they exist."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. A bad one has its `cause` and the `command` that mends it."""

    check: str
    ok: bool
    found: str
    cause: str = ""
    command: str = ""


def check_data(settings: Settings, systems: Sequence[KnownSystem]) -> Iterator[Finding]:
    """The ledger of the installation; the logs and blobs of each of the systems that ran in it."""
    with closing(open_catalog(settings)) as catalog:
        try:
            published = check_published(settings, catalog)
        except HeadraceError as error:
            yield Finding("ledger", False, "does not fit the catalog", error.message, error.hint)
        else:
            yield Finding("ledger", True, f"{published.size} leaves, as signed and as the catalog knows")
    until = MACHINE.monotonic() + HASHING_SECONDS
    for system in systems:
        try:
            with closing(world(settings, system.name, Specs(), clock=system.clock, file=None)) as ctx:
                yield from _logs(ctx)
                yield from _blobs(ctx, until)
        except HeadraceError as error:
            yield Finding(f"engines of {system.name}", False, "cannot be opened", error.message, error.hint)


def _logs(ctx: Context) -> Iterator[Finding]:
    columns = STREAM_POSITIONS.c
    with ctx.catalog.reading() as connection:
        rows = connection.execute(
            select(columns.stream, columns.next_offset).where(columns.system == ctx.system).order_by(columns.stream)
        ).all()
    bad = 0
    for stream, applied in rows:
        name, _, partition = stream.partition("@")
        end = ctx.events.end(ctx.namespace.stream(name), int(partition or 0))
        if end < applied:
            bad += 1
            cause = f"it was applied up to offset {applied}: the events between are lost"
            yield Finding(f"log of {ctx.system}/{stream}", False, f"ends at offset {end}", cause, RESTORE)
    if not bad:
        yield Finding(f"logs of {ctx.system}", True, f"{len(rows)} applied streams, none beyond its log")


def _blobs(ctx: Context, until: float) -> Iterator[Finding]:
    there = set(ctx.blobs.digests(ctx.system))
    wanted = _wanted(ctx)
    bad = hashed = 0
    for digest, what in wanted.items():
        if digest in there and MACHINE.monotonic() >= until:
            continue
        hashed += 1
        try:
            ctx.blobs.get(ctx.system, digest)
        except HeadraceError as error:
            bad += 1
            place = f"blobs/{ctx.system}/{digest[:2]}/{digest}"
            command = f"cp BACKUP/{place} {ctx.settings.data / place}"
            yield Finding(f"blob of {ctx.system}", False, "damaged" if digest in there else "missing",
                          f"{what}: {error.message}", command)  # fmt: skip
    if not bad:
        yield Finding(f"blobs of {ctx.system}", True, f"{len(wanted)} are there, {hashed} read and hashed")


def _wanted(ctx: Context) -> dict[str, str]:
    """What the registry and the runs refer to: digests, with words for who does."""
    wanted: dict[str, str] = {}
    with ctx.catalog.reading() as connection:
        versions = connection.execute(
            select(VERSIONS.c.name, VERSIONS.c.number, VERSIONS.c.artifact, VERSIONS.c.facts)
            .where(VERSIONS.c.system == ctx.system)
            .order_by(VERSIONS.c.created_at.desc())
        ).all()
        runs = connection.execute(
            select(ARTIFACTS.c.run, ARTIFACTS.c.name, ARTIFACTS.c.digest).where(ARTIFACTS.c.system == ctx.system)
        ).all()
    for name, number, artifact, facts in versions:
        parts = (("artifact", artifact), ("golden rows", facts["golden"]), ("reference", facts["reference"]))
        wanted.update((digest, f"the {part} of model `{name}` version {number}") for part, digest in parts)
    for run, name, digest in runs:
        wanted.setdefault(digest, f"`{name}` of the run `{run}`")
    return wanted
