"""Batch sources on a schedule: what is new in a folder or a query goes into the log of its stream, once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from headrace.data.files import event_files
from headrace.data.ingest import import_file
from headrace.data.producing import Producer
from headrace.data.query_rows import query_batches
from headrace.data.tables import SOURCE_FILES, SOURCES
from headrace.data.types import Folder, SourceSpec, StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError, InvalidInput, NotFound
from headrace.kernel.log import LOG
from headrace.kernel.times import MINUTE, format_time
from headrace.pipelines.claims import Claim

LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """`rows` it gave in all; `next_at` is None before the first reading, which is due at once."""

    source: str
    stream: str
    reads: str
    every_s: float
    rows: int
    read_at: str | None
    next_at: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What one reading of a source appended."""

    source: str
    stream: str
    rows: int


def source_status(ctx: Context) -> list[SourceStatus]:
    """Every declared source, in order of declaration."""
    found = []
    for spec in ctx.specs.all(SourceSpec):
        row, reads = _row(ctx, spec.name), spec.reads
        shown = reads.path if isinstance(reads, Folder) else reads.url
        rows, error = (0, None) if row is None else (row.rows, row.error)
        read_at = None if row is None or row.read_at is None else format_time(row.read_at)
        next_at = None if row is None else format_time(row.next_at)
        found.append(SourceStatus(spec.name, spec.stream, shown, reads.every / 1e6, rows, read_at, next_at, error))
    return found


def read_source(ctx: Context, name: str) -> SourceReading:
    """Append what is new in the source, now. NotFound for an unknown one, Conflict while it is being read."""
    spec = ctx.specs.get(SourceSpec, name)
    with Claim(ctx.run_folder / "claims", "source", name).held(f"the source `{name}` is being read"):
        now, rows, error = ctx.clock.now(), 0, None
        try:
            for found in _read(ctx, spec):
                rows += found
        except BaseException as failed:
            error = failed.message if isinstance(failed, HeadraceError) else repr(failed)
            raise
        finally:
            retry = min(spec.reads.every, MINUTE)
            next_at, read_at = (now + spec.reads.every, now) if error is None else (now + retry, None)
            _note(ctx, spec, rows, next_at, read_at, error)
    return SourceReading(name, spec.stream, rows)


class Sources:
    """Reads the declared sources when they are due; one process at a time (it holds a lease)."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._holder = f"{socket.gethostname()}:{ctx.settings.data.resolve()}"
        self._renew_at = 0.0

    def step(self) -> None:
        """Read what is due; a source that fails is noted, logged and tried again within a minute."""
        for spec in self._ctx.specs.all(SourceSpec):
            row = _row(self._ctx, spec.name)
            if (row is not None and row.next_at > self._ctx.clock.now()) or not self._leased():
                continue
            try:
                reading = read_source(self._ctx, spec.name)
            except HeadraceError as error:
                LOG.warning("source.failed", source=spec.name, error=error.message)
                continue
            if reading.rows:
                LOG.info("source.read", source=spec.name, stream=spec.stream, rows=reading.rows)

    def _leased(self) -> bool:
        if MACHINE.monotonic() >= self._renew_at:
            if not self._ctx.catalog.lease(self._ctx.namespace.name("sources"), self._holder, LEASE_SECONDS):
                return False
            self._renew_at = MACHINE.monotonic() + LEASE_SECONDS / 3
        return True


def _read(ctx: Context, spec: SourceSpec) -> Iterator[int]:
    """Append what is new; the number of rows after each part."""
    stream = ctx.specs.get(StreamSpec, spec.stream)
    if isinstance(spec.reads, Folder):
        yield from _read_folder(ctx, stream, spec.name, spec.reads)
        return
    producer = Producer(ctx, spec.stream, f"source/{spec.name}")
    for values, state in query_batches(stream, spec.reads, producer.state):
        producer.append(values, state, history=spec.reads.history)
        yield len(values)


def _read_folder(ctx: Context, stream: StreamSpec, source: str, folder: Folder) -> Iterator[int]:
    """Files are looked into when their name, size or time is new, and known by their content then. One that cannot be read
    holds up no other; the error of the first is raised at the end."""
    path = Path(folder.path)
    if ctx.file is not None:
        path = Path(ctx.file.partition(":")[0]).resolve().parent / path
    if not path.is_dir():
        raise NotFound(f"there is no folder `{path}`", hint=f"create it, or mend the path of the source `{source}`")
    table = SOURCE_FILES
    own = (table.c.system == ctx.system) & (table.c.source == source)
    with ctx.catalog.reading() as connection:
        known = {row.file: (row.size, row.modified) for row in connection.execute(select(table).where(own))}
    present, failed = event_files(path), None
    for file in present:
        try:
            stat = file.stat()
            found = (stat.st_size, stat.st_mtime_ns)
            if known.get(file.name) == found:
                continue
            yield import_file(ctx, stream, file, history=folder.history).rows
        except FileNotFoundError:
            continue  # (it was taken away meanwhile)
        except OSError as error:
            failed = failed or InvalidInput(f"`{file}` cannot be read: {error.strerror}", hint="check who may read it")
            continue
        except InvalidInput as error:
            failed = failed or error
            continue
        with ctx.catalog.transaction() as connection:
            connection.execute(table.delete().where(own & (table.c.file == file.name)))
            values = {"system": ctx.system, "source": source, "file": file.name, "size": found[0], "modified": found[1]}
            connection.execute(table.insert().values(**values))
    gone = set(known) - {file.name for file in present}
    if gone:
        with ctx.catalog.transaction() as connection:
            for name in gone:
                connection.execute(table.delete().where(own & (table.c.file == name)))
    if failed is not None:
        raise failed


def _row(ctx: Context, source: str) -> Any:
    """The row of the source with `next_at`, `read_at`, `rows`, `error`; None before its first reading."""
    table = SOURCES
    columns = select(table.c.next_at, table.c.read_at, table.c.rows, table.c.error)
    with ctx.catalog.reading() as connection:
        return connection.execute(columns.where((table.c.system == ctx.system) & (table.c.source == source))).first()


def _note(ctx: Context, spec: SourceSpec, rows: int, next_at: int, read_at: int | None, error: str | None) -> None:
    """What was read before a failure counts too; `read_at` None leaves the last time as it is."""
    table, before = SOURCES, _row(ctx, spec.name)
    values = {"next_at": next_at, "error": error, "rows": rows + (0 if before is None else before.rows)}
    values["read_at"] = read_at if read_at is not None or before is None else before.read_at
    with ctx.catalog.transaction() as connection:
        own = (table.c.system == ctx.system) & (table.c.source == spec.name)
        if connection.execute(table.update().where(own).values(**values)).rowcount == 0:
            connection.execute(table.insert().values(system=ctx.system, source=spec.name, **values))
