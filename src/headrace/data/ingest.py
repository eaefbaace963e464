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
from headrace.data.files import files_of, format_of
from headrace.data.producing import Producer
from headrace.data.sorting import INDEX, kept_rows, sorted_rows
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Interrupted, InvalidInput
from headrace.kernel.ids import content_hash
from headrace.kernel.log import LOG
from headrace.kernel.progress import report
from headrace.kernel.times import DAY
from headrace.pipelines.claims import Claim

BATCH = 65_536
BATCH_BYTES = 64 << 20
KEPT_IMPORTS, KEPT_DAYS = 4, 7
"""Of stopped imports of other files, so many sorted files stay on disk, for so long."""
AGAIN = "give the same command again: it goes on where it was"
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file of a folder of which nothing was appended."""

    file: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class IngestResult:
    """`rows` events were appended from `first_offset` on; `skipped` rows of the same files are there from an earlier run.
    `bad` files of a folder were passed over. What the contract refuses shows in the quarantine."""

    stream: str
    rows: int
    first_offset: int
    next_offset: int
    seconds: float
    files: int
    skipped: int
    bad: list[BadFile]


def ingest(ctx: Context, stream: str, path: Path) -> IngestResult:
    """Append every row of a Parquet, CSV or NDJSON file durably, or of every such file of a folder in the order of their
    names; each file is sorted for itself. A bad file of a folder holds up no other: it is logged, and listed in the result.

    It takes bounded memory (scratch files lie in the data folder). A file is known by its content: run again after a kill
    it goes on after the last batch in the log, with what was sorted by then, and a file that is there already adds nothing.
    Columns that the stream does not declare are left out. NotFound for an unknown stream or file, InvalidInput for a file of
    another kind or without a column that must not be null, Conflict while another process imports the same file, Interrupted
    on KeyboardInterrupt.
    """
    started = MACHINE.monotonic()
    spec = ctx.specs.get(StreamSpec, stream)
    files = files_of(path)
    first = sum(stream_ends(ctx, stream))
    rows = skipped = 0
    offsets: list[int] = []
    bad: list[BadFile] = []
    for file in files:
        try:
            imported = import_file(ctx, spec, file)
        except (InvalidInput, OSError) as error:
            of_file = isinstance(error, InvalidInput) or error.filename == str(file)
            if path == file or not of_file:
                raise
            bad.append(_bad(file, error))
            continue
        rows, skipped = rows + imported.rows, skipped + imported.skipped
        offsets += [] if imported.first_offset is None else [imported.first_offset]
    end = sum(stream_ends(ctx, stream))
    seconds = MACHINE.monotonic() - started
    return IngestResult(stream, rows, min(offsets, default=first), end, seconds, len(files), skipped, bad)


def _bad(file: Path, error: InvalidInput | OSError) -> BadFile:
    """What is told of the file, after it is logged."""
    if isinstance(error, OSError):
        error = InvalidInput(f"`{file}` cannot be read: {error.strerror}", hint="check who may read it")
    LOG.warning("file.refused", file=str(file), reason=error.message, hint=error.hint)
    return BadFile(file.name, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """`first_offset` is None when nothing was appended."""

    rows: int
    skipped: int
    first_offset: int | None


def import_file(ctx: Context, spec: StreamSpec, path: Path, *, history: bool = True) -> ImportedFile:
    """Append what is not yet in the log of one file. Errors as `ingest`."""
    done: int | None = None
    first = None
    try:
        identity = _identity(spec, path)
        with _claimed(ctx, spec.name, identity, path) as scratch:
            producer = Producer(ctx, spec.name, f"file/{identity}")
            state = producer.state or {"rows": 0, "complete": False}
            done = skipped = int(state["rows"])
            if state["complete"]:
                return ImportedFile(0, skipped, None)
            found = kept_rows(scratch) or sorted_rows(file_rows(spec, path, scratch), scratch)
            for batch in _batches(found, skipped):
                after = {"rows": done + len(batch), "complete": False, "path": str(path)}
                offset = producer.append(batch, after, history=history)
                first, done = offset if first is None else first, done + len(batch)
                report("appending", done, found.rows)
            producer.append([], {"rows": done, "complete": True, "path": str(path)})
            (scratch / INDEX).unlink(missing_ok=True)
    except KeyboardInterrupt:
        reached = f" after at least {done:,} of its rows" if done else ""
        raise Interrupted(f"the import of `{path}` into `{spec.name}` was stopped{reached}", hint=AGAIN) from None
    return ImportedFile(done - skipped, skipped, first)


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
    """The content of the file and what it is read as, with the declarations that decide its order and its events."""
    digest, done, total = sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
            done += len(part)
            report("checking", done, total)
    declared = [spec.id, spec.time, spec.created, [[field.name, field.type] for field in spec.fields]]
    return content_hash([digest.hexdigest(), format_of(path), declared])[:40]


@contextmanager
def _claimed(ctx: Context, stream: str, identity: str, path: Path) -> Iterator[Path]:
    """The scratch folder of the one process that imports the file. When that is stopped or killed, the sorted rows stay
    there for the next, beside those of other files (`_remove_left`)."""
    folder, claims = ctx.run_folder / "ingest", ctx.run_folder / "claims"
    scratch = folder / f"{stream}-{identity}"
    _remove_left(folder, claims, scratch)
    with Claim(claims, "ingest", scratch.name).held(f"another process imports `{path}` into `{stream}`"):
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            yield scratch
        finally:
            if not (scratch / INDEX).exists():
                shutil.rmtree(scratch, ignore_errors=True)


def _remove_left(folder: Path, claims: Path, own: Path) -> None:
    """Delete what stopped imports of other files than `own` have left: what was not sorted to the end, and of the sorted rows
    what is older than KEPT_DAYS or not of the last KEPT_IMPORTS."""
    sorted_at = {left: _sorted_at(left) for left in folder.glob("*")}
    kept = sorted((left for left in sorted_at if left != own), key=lambda left: sorted_at[left], reverse=True)[:KEPT_IMPORTS]
    earliest = MACHINE.now() - KEPT_DAYS * DAY
    for left, at in sorted_at.items():
        stays = at > 0 if left == own else left in kept and at > earliest
        if not stays and Claim(claims, "ingest", left.name).free():
            shutil.rmtree(left, ignore_errors=True)


def _sorted_at(scratch: Path) -> int:
    """When all rows of the import were sorted, in microseconds; 0 when they were not."""
    try:
        return (scratch / INDEX).stat().st_mtime_ns // 1000
    except FileNotFoundError:
        return 0
