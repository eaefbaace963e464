"""The online store in LMDB: read in microseconds by several processes while one writes.

Writes are not synced: they survive the end of any process, but not power loss. A mark beside the data holds the boot id
of the machine and whether the store was closed cleanly; when the machine has booted since and it was not, the data may be
torn, so it is deleted and `recovered_empty` tells the owner to rebuild it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import lmdb
import msgspec

from headrace.engines.durable_files import sync_folder, write_synced
from headrace.engines.file_locks import try_lock
from headrace.kernel.errors import EngineUnreachable, IncompatibleFormat, InvalidInput

MAP_SIZE = 16 << 30
"""The first size of the map: address space, not disk. It doubles when it is full."""
FORMAT = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
T = TypeVar("T")


class Mark(msgspec.Struct, frozen=True):
    """The mark beside the data; `boot` is empty on machines without a boot id, where only a clean store is kept."""

    format: int
    boot: str
    clean: bool


def boot_id() -> str:
    """An identifier of this run of the machine."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class _Folder:
    """One store folder, opened once in this process (LMDB forbids twice) and shared by its users.

    The map may only be replaced while no thread of this process begins a transaction: `writing` is held by a writer,
    `reading` while a read begins and by whoever replaces the map, in this order.
    """

    def __init__(self, path: Path, boot: str, map_size: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.users = 0
        self.recovered_empty = False
        self.writing = threading.RLock()
        self.reading = threading.Lock()
        self._boot = boot
        self._users_file = os.open(path / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if try_lock(self._users_file):
                self._recover()
            fcntl.flock(self._users_file, fcntl.LOCK_SH)
            try:
                self.environment = lmdb.open(str(path), map_size=map_size, sync=False, metasync=False, max_readers=512)
            except lmdb.Error as error:
                raise EngineUnreachable(
                    f"the online store `{path}` cannot be opened: {error}",
                    hint="delete the folder: it is rebuilt from the lake",
                ) from None
            self.environment.reader_check()
        except BaseException:
            os.close(self._users_file)
            raise

    def _recover(self) -> None:
        """Nobody else has the store open: keep it, or delete what power loss may have torn."""
        mark_file, data = self.path / "mark", self.path / "data.mdb"
        if data.exists():
            mark = self._read_mark(mark_file)
            if not mark.clean and (mark.boot != self._boot or not self._boot):
                data.unlink()
                (self.path / "lock.mdb").unlink(missing_ok=True)
                self.recovered_empty = True
        self._write_mark(clean=False)

    def _read_mark(self, file: Path) -> Mark:
        try:
            mark = msgspec.json.decode(file.read_bytes(), type=Mark)
        except (OSError, msgspec.MsgspecError):
            return Mark(FORMAT, "", False)
        if mark.format > FORMAT:
            raise IncompatibleFormat.newer(
                f"`{self.path}`", mark.format, FORMAT, otherwise="delete the folder: it is rebuilt from the lake"
            )
        return mark

    def _write_mark(self, *, clean: bool) -> None:
        beside = self.path / "mark.new"
        write_synced(beside, msgspec.json.encode(Mark(FORMAT, self._boot, clean)))
        beside.rename(self.path / "mark")
        sync_folder(self.path)

    def close(self) -> None:
        """Sync; the last process to close also marks the store clean."""
        self.environment.sync(True)
        self.environment.close()
        if try_lock(self._users_file):
            self._write_mark(clean=True)
        os.close(self._users_file)


_FOLDERS: dict[Path, _Folder] = {}
_FOLDERS_LOCK = threading.Lock()


class LmdbStore:
    """The embedded online store. `recovered_empty`: power loss was found when it was opened, and it is empty."""

    atomic = True

    def __init__(self, folder: Path, *, boot: str | None = None, map_size: int = MAP_SIZE) -> None:
        path = folder.resolve()
        with _FOLDERS_LOCK:
            if path not in _FOLDERS:
                _FOLDERS[path] = _Folder(path, boot_id() if boot is None else boot, map_size)
            self._folder = _FOLDERS[path]
            self._folder.users += 1
        self._environment = self._folder.environment
        self._closed = False
        self.recovered_empty = self._folder.recovered_empty

    def get(self, key: bytes) -> bytes | None:
        return self.get_many((key,))[0]

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        wanted = list(keys)
        try:
            return self._get_many(wanted)
        except lmdb.Error as error:
            return self._again(error, lambda: self._get_many(wanted))

    def _get_many(self, keys: list[bytes]) -> list[bytes | None]:
        with self._folder.reading, self._environment.begin() as transaction:
            return list(map(transaction.get, keys))

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.write_if(changes, {})

    def write_if(self, changes: Mapping[bytes, bytes | None], expected: Mapping[bytes, bytes | None]) -> bool:
        stored = [(key, value) for key in sorted(changes) if (value := changes[key]) is not None]
        deleted = [] if len(stored) == len(changes) else [key for key, value in changes.items() if value is None]

        def attempt() -> bool:
            with self._environment.begin(write=True) as transaction:
                if any(transaction.get(key) != value for key, value in expected.items()):
                    return False
                transaction.cursor().putmulti(stored)
                for key in deleted:
                    transaction.delete(key)
                return True

        with self._folder.writing:
            try:
                return attempt()
            except lmdb.Error as error:
                return self._again(error, attempt)

    def _again(self, error: lmdb.Error, attempt: Callable[[], T]) -> T:
        """After `error`, try with a larger map, or with the map that another process has grown."""
        with self._folder.writing:
            for _ in range(20):
                if isinstance(error, lmdb.MapFullError):
                    self._replace_map(2 * self._environment.info()["map_size"])
                elif isinstance(error, lmdb.MapResizedError):
                    self._replace_map(0)
                elif isinstance(error, lmdb.BadValsizeError):
                    raise InvalidInput(f"an online key is empty or too long: {error}", hint="keys are 1 to 500 bytes")
                else:
                    break
                try:
                    return attempt()
                except lmdb.Error as again:
                    error = again
        state = "is closed" if self._closed else "does not answer"
        raise EngineUnreachable(f"the online store `{self._folder.path}` {state}: {error}", hint="open it again")

    def _replace_map(self, size: int) -> None:
        with self._folder.reading:
            self._environment.set_mapsize(size)

    def scan(self, prefix: bytes, *, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Pairs in key order from one snapshot. EngineUnreachable when the map is replaced meanwhile: scan again."""
        try:
            self.get_many([])
            with self._folder.reading:
                transaction = self._environment.begin()
            with transaction:
                cursor = transaction.cursor()
                first = max(prefix, start)
                found: bool = cursor.set_range(first) if first else cursor.first()
                pairs: Iterator[tuple[bytes, bytes]] = iter(cursor) if found else iter(())
                for key, value in pairs:
                    if not key.startswith(prefix):
                        return
                    yield key, value
        except lmdb.Error as error:
            raise EngineUnreachable(f"the scan of `{self._folder.path}` was cut off: {error}", hint="scan again") from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with _FOLDERS_LOCK:
            self._folder.users -= 1
            if self._folder.users == 0:
                del _FOLDERS[self._folder.path]
                self._folder.close()
