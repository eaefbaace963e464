"""Importing files of events into a stream, as history: sorted by (created, id), created at their event time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import polars as pl

from headrace.data.appending import stream_ends
from headrace.data.file_rows import file_rows
from headrace.data.files import files_of
from headrace.data.producing import Producer
from headrace.data.sorting import sorted_rows
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict
from headrace.kernel.ids import content_hash
from headrace.kernel.progress import report
from headrace.pipelines.claims import Claim

BATCH = 65_536
BATCH_BYTES = 64 << 20
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class IngestResult:
    """`rows` events were appended from `first_offset` on; `skipped` rows of the same files are there from an earlier run.
    What the contract refuses shows in the quarantine."""

    stream: str
    rows: int
    first_offset: int
    next_offset: int
    seconds: float
    files: int
    skipped: int


def ingest(ctx: Context, stream: str, path: Path) -> IngestResult:
    """Append every row of a Parquet, CSV or NDJSON file durably, or of every such file of a folder in the order of their
    names; each file is sorted for itself.

    It takes bounded memory (scratch files lie in the data folder). A file is known by its content: run again after a kill
    it goes on after the last batch in the log, and a file that is there already adds nothing. Columns that the stream does
    not declare are left out. NotFound for an unknown stream or file, InvalidInput for a file of another kind or without a
    column that must not be null, Conflict while another process imports the same file.
    """
    started = MACHINE.monotonic()
    spec = ctx.specs.get(StreamSpec, stream)
    files = files_of(path)
    first = sum(stream_ends(ctx, stream))
    rows = skipped = 0
    offsets = []
    for file in files:
        imported = import_file(ctx, spec, file)
        rows, skipped = rows + imported.rows, skipped + imported.skipped
        offsets += [] if imported.first_offset is None else [imported.first_offset]
    end = sum(stream_ends(ctx, stream))
    return IngestResult(stream, rows, min(offsets, default=first), end, MACHINE.monotonic() - started, len(files), skipped)


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """`first_offset` is None when nothing was appended."""

    rows: int
    skipped: int
    first_offset: int | None


def import_file(ctx: Context, spec: StreamSpec, path: Path, *, history: bool = True) -> ImportedFile:
    """Append what is not yet in the log of one file."""
    identity = _identity(spec, path)
    with _claimed(ctx, spec.name, identity, path) as scratch:
        producer = Producer(ctx, spec.name, f"file/{identity}")
        state = producer.state or {"rows": 0, "complete": False}
        skipped = int(state["rows"])
        if state["complete"]:
            return ImportedFile(0, skipped, None)
        first, done = None, skipped
        found = _Counted(file_rows(spec, path, scratch))
        for batch in _batches(sorted_rows(found, scratch), skipped):
            done += len(batch)
            offset = producer.append(batch, {"rows": done, "complete": False, "path": str(path)}, history=history)
            first = offset if first is None else first
            report("appending", done, found.rows)
        producer.append([], {"rows": done, "complete": True, "path": str(path)})
    return ImportedFile(done - skipped, skipped, first)


class _Counted:
    """Frames passed on, with the number of their rows: all are read before the first row is sorted."""

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        self._frames = frames
        self.rows = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for frame in self._frames:
            self.rows += frame.height
            yield frame


def _batches(frames: Iterable[pl.DataFrame], skip: int) -> Iterator[list[bytes]]:
    """The events after the first `skip`, up to BATCH of them and about BATCH_BYTES at a time."""
    held: list[bytes] = []
    size = 0
    for frame in frames:
        left = frame.slice(min(skip, frame.height))
        skip -= frame.height - left.height
        for part in left.iter_slices(1024):
            values = part["event"].to_list()
            held += values
            size += sum(map(len, values))
            if len(held) >= BATCH or size >= BATCH_BYTES:
                yield held
                held, size = [], 0
    if held:
        yield held


def _identity(spec: StreamSpec, path: Path) -> str:
    """The content of the file with the declarations that decide its order and its events."""
    digest, done, total = sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
            done += len(part)
            report("checking", done, total)
    declared = [spec.id, spec.time, spec.created, [[field.name, field.type] for field in spec.fields]]
    return content_hash([digest.hexdigest(), declared])[:40]


@contextmanager
def _claimed(ctx: Context, stream: str, identity: str, path: Path) -> Iterator[Path]:
    """The scratch folder of the one process that imports the file; those that killed processes left are removed."""
    folder, claims = ctx.run_folder / "ingest", ctx.run_folder / "claims"
    for left in folder.glob("*"):
        if Claim(claims, "ingest", left.name).free():
            shutil.rmtree(left, ignore_errors=True)
    scratch = folder / f"{stream}-{identity}"
    claim = Claim(claims, "ingest", scratch.name)
    if not claim.take():
        raise Conflict(f"another process imports `{path}` into `{stream}`", hint="wait until it is done")
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        claim.release()
