"""Verification: everything is computed again from the entries, and each entry is compared with its source of truth.

The checkpoint is signed by a key outside the data folder, so files and catalog cannot be changed together unnoticed;
with a checkpoint that was saved elsewhere, even the owner of that key cannot rewrite or cut the log unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound
from headrace.ledger.batches import check_batches
from headrace.ledger.checkpoint import Checkpoint, Verifier, key_path, load_key, parse_note
from headrace.ledger.entries import entry_of, id_of
from headrace.ledger.log import CHECKPOINT, audit_folder, ledger_row
from headrace.ledger.merkle import EMPTY_ROOT, leaf_hash, root_of
from headrace.ledger.tables import OUTBOX
from headrace.ledger.tiles import WIDTH, TileFolder, decode_bundle, encode_bundle, tile_path, tiles_of

ROWS_A_READ = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """Something bad: `index` and `id` of the leaf, null and the file or setting for what is no leaf."""

    index: int | None
    id: str
    why: str


@dataclass(slots=True)
class Verification:
    """`leaves` and `root` (hex) are those of the signed checkpoint."""

    verified: bool
    leaves: int
    root: str
    bad: list[Finding] = field(default_factory=list)


def verify(ctx: Context, *, checkpoint: Path | None = None, key: str | None = None) -> Verification:
    """Check the whole ledger; `checkpoint` is a signed note saved earlier, `key` the public key or a file with it.

    Without `key` the public half of the installation's signing key is used; InvalidInput when there is none. NotFound
    when there is no file `checkpoint`.
    """
    saved = None if checkpoint is None else _read_note(checkpoint)
    with ctx.catalog.reading() as connection:
        known = ledger_row(connection)
    note = audit_folder(ctx.settings) / CHECKPOINT
    result = Verification(False, 0, "")
    if known is None and not note.is_file() and saved is None:
        return Verification(True, 0, EMPTY_ROOT.hex())
    verifier = _verifier(ctx, "" if known is None else known.origin, key)
    try:
        current = verifier.open(note.read_text() if note.is_file() else "")
    except CheckFailed as error:
        result.bad.append(Finding(None, CHECKPOINT, error.message))
        return result
    result.leaves, result.root = current.size, current.root.hex()
    if known is not None and known.size > current.size:
        result.bad.append(Finding(None, CHECKPOINT, f"cut: {known.size} leaves were published, it has {current.size}"))
    entries, hashes = _entries(ctx, current, result.bad)
    result.bad += _compared_with_catalog(ctx, entries)
    result.bad += _compared_with_tiles(ctx, current, entries, hashes, saved, verifier)
    result.bad += [Finding(index, id_, why) for index, id_, why in check_batches(ctx, entries)]
    result.bad.sort(key=lambda finding: (finding.index is None, finding.index or 0))
    result.verified = not result.bad
    return result


def _read_note(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        raise NotFound(f"there is no checkpoint `{file}`", hint="`headrace audit checkpoint > FILE` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the checkpoint `{file}` cannot be read: {error}", hint="check the path") from None


def _verifier(ctx: Context, origin: str, key: str | None) -> Verifier:
    if key is not None:
        return Verifier.parse(Path(key).read_text() if Path(key).is_file() else key)
    private = load_key(ctx.settings, create=False)
    if private is None:
        raise InvalidInput(
            f"there is no key to check the signature with: `{key_path(ctx.settings)}` does not exist",
            hint="pass the log's public key with --key; `headrace audit key` prints it where the log is written",
        )
    return Verifier(origin, private.public_key())


def _entries(ctx: Context, current: Checkpoint, bad: list[Finding]) -> tuple[list[bytes], list[bytes]]:
    """The entries of the checkpoint's tree and their leaf hashes; those that are missing count as empty."""
    tiles = TileFolder(audit_folder(ctx.settings))
    entries: list[bytes] = []
    for level, index, width in tiles_of(current.size):
        if level == 0:
            found, exact = _bundle(tiles, index, width)
            if len(found) != width or not exact:
                path = tile_path("entries", index, width)
                what = f"{len(found)} entries instead of {width}" if len(found) != width else "more than its entries"
                bad.append(Finding(index * WIDTH + min(len(found), width), path, f"has {what}"))
            entries += [*found[:width], *[b""] * (width - len(found))]
    return entries, [leaf_hash(entry) for entry in entries]


def _bundle(tiles: TileFolder, index: int, width: int) -> tuple[list[bytes], bool]:
    """The entries of a bundle, and whether the file holds nothing else. Of a full file the first `width`."""
    for path, most in ((tile_path("entries", index, width), None), (tile_path("entries", index), width)):
        content = tiles.read(path)
        if content is not None:
            found = decode_bundle(content)
            return found[:most], encode_bundle(found) == content
    return [], True


def _compared_with_catalog(ctx: Context, entries: list[bytes]) -> list[Finding]:
    """Each entry against the outbox row of its index."""
    bad: list[Finding] = []
    for start in range(0, len(entries), ROWS_A_READ):
        end = min(start + ROWS_A_READ, len(entries))
        with ctx.catalog.reading() as connection:
            rows = connection.execute(select(OUTBOX).where(OUTBOX.c.leaf >= start, OUTBOX.c.leaf < end)).all()
        by_leaf = {row.leaf: row for row in rows}
        for index in range(start, end):
            row, identifier = by_leaf.get(index), id_of(entries[index])
            if row is None:
                bad.append(Finding(index, identifier, "its record is missing from the catalog"))
            elif row.id != identifier:
                bad.append(Finding(index, identifier or row.id, f"the catalog has the record `{row.id}` in its place"))
            elif entry_of(row) != entries[index]:
                bad.append(Finding(index, identifier, "its entry and its record in the catalog differ"))
    with ctx.catalog.reading() as connection:
        free = connection.scalar(select(func.min(OUTBOX.c.leaf)).where(OUTBOX.c.leaf >= len(entries)))
    if free is not None and free != len(entries):
        bad.append(Finding(len(entries), "", f"its record is missing from the catalog; the next one found is {free}"))
    return bad


def _compared_with_tiles(
    ctx: Context, current: Checkpoint, entries: list[bytes], hashes: list[bytes], saved: str | None, verifier: Verifier
) -> list[Finding]:
    """The recomputed hashes against every tile, the signed root, and the checkpoint saved elsewhere."""
    bad: list[Finding] = []
    tiles = TileFolder(audit_folder(ctx.settings))
    by_level = [hashes]
    while len(by_level[-1]) >= WIDTH:
        below = by_level[-1]
        by_level.append([root_of(below[at : at + WIDTH]) for at in range(0, len(below) - len(below) % WIDTH, WIDTH)])
    for level, index, width in tiles_of(current.size):
        path = tile_path(level, index, width)
        expected = by_level[level][index * WIDTH : index * WIDTH + width]
        try:
            found = tiles.hashes(level, index, width)
        except CheckFailed as error:
            bad.append(Finding(None, path, error.message))
            continue
        for at, (want, got) in enumerate(zip(expected, found, strict=True), index * WIDTH):
            if want != got:
                leaf = at if level == 0 else None
                bad.append(Finding(leaf, path, "the hash in the tile is not that of the entries"))
    bad += _earlier_tiles(tiles, current, by_level, entries)
    if root_of(hashes) != current.root:
        bad.append(Finding(None, CHECKPOINT, "the signed root is not that of the entries"))
    if saved is not None:
        bad += _compared_with_saved(current, hashes, saved, verifier)
    return bad


def _earlier_tiles(
    tiles: TileFolder, current: Checkpoint, by_level: list[list[bytes]], entries: list[bytes]
) -> Iterator[Finding]:
    """The partial files of earlier checkpoints. One of entries beyond the checkpoint is not published yet."""
    now = {(str(level), index, width) for level, index, width in tiles_of(current.size)}
    for level, index, width in tiles.partials():
        items = entries if level == "entries" else by_level[int(level)] if int(level) < len(by_level) else []
        expected = items[index * WIDTH : index * WIDTH + width]
        if len(expected) < width or (level.replace("entries", "0"), index, width) in now:
            continue
        path = tile_path(level, index, width)
        content = encode_bundle(expected) if level == "entries" else b"".join(expected)
        if tiles.read(path) not in (None, content):
            yield Finding(None, path, "a tile of an earlier checkpoint is not that of the entries")


def _compared_with_saved(current: Checkpoint, hashes: list[bytes], saved: str, verifier: Verifier) -> list[Finding]:
    name = "saved checkpoint"
    try:
        earlier = parse_note(saved)[0]
        if earlier.origin != current.origin:
            return [Finding(None, name, f"it is of the log `{earlier.origin}`, this one is `{current.origin}`: rebuilt")]
        verifier.open(saved)
    except CheckFailed as error:
        return [Finding(None, name, error.message)]
    if earlier.size > current.size:
        return [Finding(None, name, f"it has {earlier.size} leaves, the ledger has {current.size}: cut or rebuilt")]
    if root_of(hashes[: earlier.size]) != earlier.root:
        return [Finding(None, name, f"its root is not that of the first {earlier.size} entries: changed or rebuilt")]
    return []
