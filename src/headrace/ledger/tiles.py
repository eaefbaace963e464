"""The ledger's files, in the form of C2SP tlog-tiles: `checkpoint`, `tile/LEVEL/INDEX`, `tile/entries/INDEX`.

A tile holds 256 hashes of 32 bytes, an entry bundle 256 entries, each after its length as a big-endian uint16. The
rightmost ones of a tree are partial: `INDEX.p/WIDTH`. Whoever has an earlier checkpoint reads the narrower ones of its time,
so all of them stay until the full one has been written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from headrace.engines.durable_files import sync_folder, write_synced
from headrace.kernel.errors import CheckFailed
from headrace.ledger.merkle import HashedLeaves

WIDTH = 256
LARGEST_ENTRY = 65_535


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """`tile/0/x001/x234/067`, `tile/entries/000.p/17`: the path below the ledger's folder."""
    text = str(index)
    text = text.zfill(-len(text) // 3 * -3)
    parts = [text[at : at + 3] for at in range(0, len(text), 3)]
    number = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
    return f"tile/{level}/{number}" if width == WIDTH else f"tile/{level}/{number}.p/{width}"


def tiles_of(size: int) -> list[tuple[int, int, int]]:
    """(level, index, width) of every tile of a tree of `size` leaves."""
    found: list[tuple[int, int, int]] = []
    level, hashes = 0, size
    while hashes:
        full, rest = divmod(hashes, WIDTH)
        found.extend((level, index, WIDTH) for index in range(full))
        if rest:
            found.append((level, full, rest))
        level, hashes = level + 1, full
    return found


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(content: bytes) -> list[bytes]:
    """The entries of a bundle; a last one that is cut off is left out."""
    entries, at = [], 0
    while at + 2 <= len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        if end > len(content):
            break
        entries.append(content[at + 2 : end])
        at = end
    return entries


class TileFolder:
    """Reads and writes tiles below `folder`. Reads fall back from a partial file to its full one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsettled: set[Path] = set()
        self._subtree = lru_cache(maxsize=64)(self._hashed)

    def write(self, path: str, content: bytes) -> None:
        """Replace the file as a whole: a crash leaves the old or the new one. Durable after `settle`."""
        target = self.folder / path
        self._unsettled.add(target.parent)
        self._unsettled.update(new.parent for new in (target.parent, *target.parent.parents) if not new.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        write_synced(beside, content)
        beside.rename(target)

    def settle(self) -> None:
        """Make the names of all files written so far durable too: one sync a folder."""
        for folder in self._unsettled:
            sync_folder(folder)
        self._unsettled.clear()

    def drop_partial(self, level: int | str, index: int) -> None:
        """Delete the partial files of a tile whose full one exists."""
        folder = self.folder / f"{tile_path(level, index)}.p"
        if folder.is_dir():
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
            folder.rmdir()

    def partials(self) -> Iterator[tuple[str, int, int]]:
        """(level, index, width) of every partial file that is there."""
        for file in sorted(self.folder.glob("tile/**/*.p/*")):
            level, *parts = file.relative_to(self.folder / "tile").parts
            number = "".join(parts[:-1]).removesuffix(".p").replace("x", "")
            if number.isdigit() and parts[-1].isdigit():
                yield level, int(number), int(parts[-1])

    def read(self, path: str) -> bytes | None:
        """The content of a file; None when it is not there."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def hashes(self, level: int, index: int, width: int = WIDTH) -> list[bytes]:
        """The first `width` hashes of a tile; CheckFailed when they are not there."""
        content = self._content(level, index, width)
        if len(content) < width * 32:
            raise CheckFailed(
                f"ledger tile `{tile_path(level, index, width)}` has {len(content)} bytes, needed: {width * 32}",
                hint="restore `audit/` from a backup",
            )
        return [content[at : at + 32] for at in range(0, width * 32, 32)]

    def entries(self, index: int, width: int = WIDTH) -> list[bytes]:
        """The first `width` entries of a bundle; CheckFailed when they are not there."""
        entries = decode_bundle(self._content("entries", index, width))
        if len(entries) < width:
            raise CheckFailed(
                f"entry bundle `{tile_path('entries', index, width)}` has {len(entries)} entries, needed: {width}",
                hint="restore `audit/` from a backup",
            )
        return entries[:width]

    def missing(self, size: int) -> str | None:
        """The first file of a tree of `size` leaves that is not there, its partial form or its full one."""
        for tile_level, index, width in tiles_of(size):
            for level in (tile_level, "entries") if tile_level == 0 else (tile_level,):
                paths = (tile_path(level, index, width), tile_path(level, index))
                if not any((self.folder / path).is_file() for path in paths):
                    return paths[0]
        return None

    def node(self, size: int, level: int, index: int) -> bytes:
        """The hash of the perfect subtree `index` of height `level` of a tree of `size` leaves."""
        tile_level, height = divmod(level, 8)
        tile, first = divmod(index << height, WIDTH)
        width = min(WIDTH, (size >> (8 * tile_level)) - tile * WIDTH)
        return self._subtree(tile_level, tile, width).node(height, first >> height)

    def _hashed(self, level: int, index: int, width: int) -> HashedLeaves:
        return HashedLeaves(self.hashes(level, index, width))

    def _content(self, level: int | str, index: int, width: int) -> bytes:
        for path in (tile_path(level, index, width), tile_path(level, index)):
            content = self.read(path)
            if content is not None:
                return content
        raise CheckFailed(f"`{tile_path(level, index, width)}` of the ledger is missing", hint="restore it from a backup")
