"""The Merkle log in its files: opened where the last published checkpoint left it, extended, signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select, update

from headrace.engines.catalog.port import Catalog
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.ids import new_id
from headrace.kernel.settings import Settings
from headrace.ledger.checkpoint import Checkpoint, Signer, Verifier, key_path, load_key, parse_note
from headrace.ledger.merkle import EMPTY_ROOT, CompactRange, leaf_hash, root_of
from headrace.ledger.tables import LEDGER, OUTBOX
from headrace.ledger.tiles import WIDTH, TileFolder, encode_bundle, tile_path

CHECKPOINT = "checkpoint"
RESTORE = "restore a backup into a new folder: `headrace restore BACKUP --data NEW`"


def audit_folder(settings: Settings) -> Path:
    return settings.data / "audit"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What the catalog knows of the log: its origin, published size and signed checkpoint."""

    origin: str
    size: int
    note: str


def ledger_row(connection: Connection) -> LedgerRow | None:
    """None until the log has a name."""
    row = connection.execute(select(LEDGER.c.origin, LEDGER.c.size, LEDGER.c.note)).first()
    return None if row is None else LedgerRow(row.origin, row.size, row.note)


def _named(connection: Connection) -> LedgerRow:
    """The row, in a write transaction: the first call names the log."""
    row = ledger_row(connection)
    if row is None:
        row = LedgerRow(f"headrace.local/{new_id()}", 0, "")
        connection.execute(LEDGER.insert().values(system="*", origin=row.origin, size=0, note=""))
    return row


def check_published(settings: Settings, catalog: Catalog) -> Checkpoint:
    """The published checkpoint, of size 0 when there is none; nothing is written. CheckFailed when files, catalog and key
    do not agree on it, a file is missing, or the catalog lacks the last records of the log."""
    tiles = TileFolder(audit_folder(settings))
    with catalog.reading() as connection:
        known = ledger_row(connection) or LedgerRow("", 0, "")
    note = _note(tiles)
    if not known.note and not note:
        return Checkpoint(known.origin, 0, b"")
    verifier = Signer(known.origin, _present(load_key(settings, create=False), settings)).verifier
    published = _agreed(known, note, verifier, tiles)
    with catalog.reading() as connection:  # after the note: a leaf is in the catalog before it is published
        last = connection.scalar(select(func.max(OUTBOX.c.leaf)))
    records = 0 if last is None else last + 1
    if records < published.size:
        raise CheckFailed(
            f"the ledger has {published.size} leaves, the catalog only the records of {records}: the catalog is older",
            hint=RESTORE,
        )
    missing = tiles.missing(published.size)
    if missing is not None:
        raise CheckFailed(f"`{missing}` of the ledger is missing", hint=RESTORE)
    return published


def _note(tiles: TileFolder) -> str:
    file = tiles.folder / CHECKPOINT
    return file.read_text() if file.is_file() else ""


def _present(key: Ed25519PrivateKey | None, settings: Settings) -> Ed25519PrivateKey:
    if key is None:
        raise CheckFailed(
            f"the signing key `{key_path(settings)}` of this ledger is missing",
            hint="put the key back, or set `signing_key` to where it lies: `export HEADRACE_SIGNING_KEY=PATH`",
        )
    return key


def _agreed(known: LedgerRow, note: str, verifier: Verifier, tiles: TileFolder) -> Checkpoint:
    """The checkpoint of the note ("": none). CheckFailed unless it continues what the catalog knows and is its tiles' root."""
    published = parse_note(note)[0] if note else Checkpoint(known.origin, 0, EMPTY_ROOT)
    if published.origin != known.origin or published.size < known.size:
        raise CheckFailed(
            f"the ledger's checkpoint is `{published.origin}` {published.size}, "
            f"the catalog has published `{known.origin}` {known.size}: the files under `audit/` were cut, or exchanged, "
            "or are not this catalog's",
            hint=RESTORE,
        )
    if note:
        verifier.open(note)
    size = published.size
    if CompactRange.load(size, lambda level, index: tiles.node(size, level, index)).root() != published.root:
        raise CheckFailed(
            "the ledger's tiles do not give the root of its checkpoint",
            hint=f"`headrace audit verify` shows where; {RESTORE}",
        )
    return published


class MerkleLog:
    """The right edge of the log in memory: the partial tile of each level and the partial entry bundle."""

    def __init__(self, tiles: TileFolder, signer: Signer, size: int) -> None:
        self._tiles = tiles
        self._signer = signer
        self._range = CompactRange.load(size, lambda level, index: tiles.node(size, level, index))
        self._bundle = tiles.entries(size // WIDTH, size % WIDTH) if size % WIDTH else []
        self._edges: list[list[bytes]] = []
        self._changed: set[int] = set()
        self._completed: list[tuple[int | str, int]] = []
        level, hashes = 0, size
        while hashes:
            full, rest = divmod(hashes, WIDTH)
            self._edges.append(tiles.hashes(level, full, rest) if rest else [])
            level, hashes = level + 1, full

    @classmethod
    def open(cls, ctx: Context) -> MerkleLog:
        """The log as published; CheckFailed when files, catalog and key do not agree on it."""
        tiles = TileFolder(audit_folder(ctx.settings))
        with ctx.catalog.transaction() as connection:
            known = _named(connection)
            note = _note(tiles)
            key = load_key(ctx.settings, create=not known.note and not note)
            signer = Signer(known.origin, _present(key, ctx.settings))
            published = _agreed(known, note, signer.verifier, tiles)
            log = cls(tiles, signer, published.size)
            if note != known.note or not note:
                note = note or log.sign()
                log.publish(note)
                connection.execute(update(LEDGER).values(size=published.size, note=note))
        return log

    @property
    def size(self) -> int:
        return self._range.size

    def root(self) -> bytes:
        return self._range.root()

    def append(self, entries: Sequence[bytes]) -> None:
        """Write the entries and every tile that they change, durably. Not yet published."""
        for entry in entries:
            self._bundle.append(entry)
            if len(self._bundle) == WIDTH:
                self._write("entries", self.size // WIDTH, self._bundle)
                self._bundle = []
            leaf = leaf_hash(entry)
            self._push(0, self.size, leaf)
            self._range.append(leaf)
        if self._bundle:
            self._write("entries", self.size // WIDTH, self._bundle)
        for level in self._changed:
            if self._edges[level]:
                self._write(level, self.size // WIDTH ** (level + 1), self._edges[level])
        self._changed.clear()
        self._tiles.settle()

    def sign(self) -> str:
        """The signed note of the log as it stands."""
        return self._signer.sign(Checkpoint(self._signer.verifier.name, self.size, self.root()))

    def publish(self, note: str) -> None:
        """Replace the checkpoint; partial tiles go only now, since the former checkpoint's readers need them."""
        self._tiles.write(CHECKPOINT, note.encode())
        self._tiles.settle()
        for level, index in self._completed:
            self._tiles.drop_partial(level, index)
        self._completed = []

    def _push(self, level: int, index: int, digest: bytes) -> None:
        if level == len(self._edges):
            self._edges.append([])
        self._changed.add(level)
        edge = self._edges[level]
        edge.append(digest)
        if len(edge) == WIDTH:
            self._write(level, index // WIDTH, edge)
            self._edges[level] = []
            self._push(level + 1, index // WIDTH, root_of(edge))

    def _write(self, level: int | str, index: int, items: Sequence[bytes]) -> None:
        content = encode_bundle(items) if level == "entries" else b"".join(items)
        self._tiles.write(tile_path(level, index, len(items)), content)
        if len(items) == WIDTH:
            self._completed.append((level, index))
