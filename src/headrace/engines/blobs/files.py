"""Blobs as files: `FOLDER/PREFIX/ab/abcdef...`, written beside and renamed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from headrace.engines.durable_files import sync_folder, write_synced
from headrace.kernel.errors import CheckFailed, NotFound
from headrace.kernel.ids import new_id

_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """The embedded blob store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, prefix: str, digest: str) -> Path:
        return self._folder / prefix / digest[:2] / digest

    def put(self, prefix: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(prefix, digest)
        if path.exists():
            return digest
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{new_id()}")
        write_synced(beside, content)
        beside.rename(path)
        for folder in (path.parent, path.parent.parent):
            sync_folder(folder)
        return digest

    def get(self, prefix: str, digest: str) -> bytes:
        path = self._path(prefix, digest)
        if not _DIGEST.fullmatch(digest) or not path.is_file():
            raise NotFound(f"no blob `{digest}` in `{prefix}`", hint="restore a backup into a new folder: `headrace restore`")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise CheckFailed(f"blob `{digest}` in `{prefix}` does not match its digest", hint="restore it from a backup")
        return content

    def digests(self, prefix: str) -> Iterator[str]:
        for path in sorted((self._folder / prefix).glob("??/*")):
            if _DIGEST.fullmatch(path.name):
                yield path.name
