"""Backup of a running installation into a folder, and its restoration.

Nothing is stopped. What refers is copied before what it refers to: the catalog first (by SQLite's online backup), then the
ledger as that catalog knows it, blobs, lake (each table's log before its files), and the event log last, whose topics
in the order of their names (counters, predictions, quarantine, streams) refer only to later ones. A batch that was just
being appended is cut off when the copy is opened. The online state is not copied: it is rebuilt from lake and log.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import msgspec

from headrace.engines.context import Context
from headrace.engines.durable_files import sync_folder, write_synced
from headrace.governance.types import BackupResult
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import CheckFailed, IncompatibleFormat, InvalidInput, NotFound
from headrace.kernel.ids import new_id
from headrace.kernel.times import format_time
from headrace.ledger.checkpoint import parse_note
from headrace.ledger.tiles import TileFolder, encode_bundle, tile_path, tiles_of

FORMAT = 1
MANIFEST = "manifest.json"
CATALOG = "catalog.sqlite"
_NOT_COPIED = ("run", "online", "audit", CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm")
_TEMPORARY = (".new", ".tmp", "-wal", "-shm", "-journal")
_BLOCK = 1 << 20


class _File(msgspec.Struct):
    path: str
    bytes: int
    sha256: str


class _Manifest(msgspec.Struct):
    format: int
    headrace: str
    created_at: str
    leaves: int
    root: str
    files: list[_File]


def backup(ctx: Context, dest: Path) -> BackupResult:
    """Copy the installation of `ctx` (all its systems) to `dest`, a new or empty folder.

    The signing key is not part of the data folder, and not of its backup.
    """
    began = MACHINE.monotonic()
    data = ctx.settings.data.resolve()
    if ctx.settings.catalog:
        raise InvalidInput("a backup covers the embedded catalog only", hint="use your database's own backup")
    _check_new(dest, "name a new folder")
    if dest.resolve().is_relative_to(data):
        raise InvalidInput(f"`{dest}` lies inside the data folder", hint="name a folder elsewhere")
    dest.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = [_copy_database(data, dest, CATALOG)]
    size, note = _ledger_of(dest / CATALOG)
    files += _copy_ledger(data / "audit", dest, size, note)
    for path in _to_copy(data):
        copied = _copy_database(data, dest, str(path)) if path.suffix == ".sqlite" else _copy(data, dest, path)
        files += [] if copied is None else [copied]
    root = parse_note(note)[0].root.hex() if note else ""
    manifest = _Manifest(FORMAT, version("headrace"), format_time(MACHINE.now()), size, root, files)
    _write(dest, MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    sync_folder(dest)
    seconds = round(MACHINE.monotonic() - began, 3)
    return BackupResult(str(dest), len(files), sum(file.bytes for file in files), size, root, seconds)


def restore(source: Path, data_folder: Path) -> BackupResult:
    """Make `data_folder` (new or empty) from the backup `source`; all of it or nothing.

    Raises NotFound when `source` is no backup, CheckFailed when a file is missing or does not match its digest.
    """
    began = MACHINE.monotonic()
    manifest = _manifest_of(source)
    _check_new(data_folder, "name a new folder with --data")
    beside = data_folder.with_name(f".{data_folder.name}.{new_id()}")
    try:
        for file in manifest.files:
            copied = _copy(source, beside, Path(file.path))
            if copied is None or copied.sha256 != file.sha256:
                state = "is missing from" if copied is None else "was changed in"
                raise CheckFailed(f"`{file.path}` {state} the backup `{source}`", hint="use another backup")
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if data_folder.exists():
        data_folder.rmdir()
    beside.rename(data_folder)
    sync_folder(data_folder.parent)
    seconds = round(MACHINE.monotonic() - began, 3)
    total = sum(file.bytes for file in manifest.files)
    return BackupResult(str(data_folder), len(manifest.files), total, manifest.leaves, manifest.root, seconds)


def _check_new(folder: Path, hint: str) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"`{folder}` exists and is not an empty folder", hint=hint)


def _manifest_of(source: Path) -> _Manifest:
    try:
        manifest = msgspec.json.decode((source / MANIFEST).read_bytes(), type=_Manifest)
    except OSError:
        raise NotFound(f"`{source}` is no backup: it has no `{MANIFEST}`", hint="`headrace backup DEST` makes one") from None
    except msgspec.DecodeError as error:
        raise CheckFailed(f"the manifest of `{source}` is damaged: {error}", hint="use another backup") from None
    if manifest.format > FORMAT:
        raise IncompatibleFormat(
            f"the backup has format {manifest.format}, this headrace reads up to {FORMAT}", hint="install a newer headrace"
        )
    for file in manifest.files:
        if Path(file.path).is_absolute() or ".." in Path(file.path).parts:
            raise CheckFailed(f"the manifest of `{source}` names `{file.path}`", hint="use another backup")
    return manifest


def _ledger_of(catalog: Path) -> tuple[int, str]:
    with closing(sqlite3.connect(catalog)) as connection:
        row = connection.execute("SELECT size, note FROM ledger").fetchone()
    return (0, "") if row is None else (int(row[0]), str(row[1]))


def _copy_ledger(audit: Path, dest: Path, size: int, note: str) -> Iterator[_File]:
    """The tree of `size` leaves, as its readers need it, and its checkpoint; growth since then is left out."""
    if not note:
        return
    tiles = TileFolder(audit)
    for level, index, width in tiles_of(size):
        yield _write(dest, f"audit/{tile_path(level, index, width)}", b"".join(tiles.hashes(level, index, width)))
        if level == 0:
            content = encode_bundle(tiles.entries(index, width))
            yield _write(dest, f"audit/{tile_path('entries', index, width)}", content)
    yield _write(dest, "audit/checkpoint", note.encode())


def _to_copy(data: Path) -> Iterator[Path]:
    """Paths below the data folder, in an order in which nothing refers to what was copied before it."""
    names = [p.name for p in data.iterdir() if p.name not in _NOT_COPIED]
    order = {"blobs": 0, "lake": 1, "events": 3}
    for name in sorted(names, key=lambda name: (order.get(name, 2 if name == "format" else 4), name)):
        paths = [data / name] if (data / name).is_file() else [p for p in (data / name).rglob("*") if p.is_file()]
        for path in sorted(paths, key=lambda p: (not p.name.endswith(".sqlite"), _delta_rank(p), p)):
            if not path.name.startswith(".") and not path.name.endswith(_TEMPORARY):
                yield path.relative_to(data)


def _delta_rank(path: Path) -> int:
    """A Delta log before the files it names, its pointer to a check point before the log."""
    return 0 if path.name == "_last_checkpoint" else 1 if "_delta_log" in path.parts else 2


def _copy(source: Path, dest: Path, path: Path) -> _File | None:
    """Copy what a file holds now, durably; None when it has vanished (a temporary one)."""
    digest, total = hashlib.sha256(), 0
    try:
        with (source / path).open("rb") as reading:
            rest = os.fstat(reading.fileno()).st_size
            (dest / path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (dest / path).open("wb") as writing:
                while rest > 0 and (block := reading.read(min(_BLOCK, rest))):
                    writing.write(block)
                    digest.update(block)
                    total, rest = total + len(block), rest - len(block)
                writing.flush()
                os.fsync(writing.fileno())
    except FileNotFoundError:
        return None
    return _File(path.as_posix(), total, digest.hexdigest())


def _copy_database(source: Path, dest: Path, path: str) -> _File:
    """One consistent state of a database that others are writing."""
    (dest / path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        closing(sqlite3.connect(f"{(source / path).resolve().as_uri()}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(dest / path)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")
    content = (dest / path).read_bytes()
    return _File(path, len(content), hashlib.sha256(content).hexdigest())


def _write(dest: Path, path: str, content: bytes) -> _File:
    target = dest / path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_synced(target, content)
    return _File(path, len(content), hashlib.sha256(content).hexdigest())
