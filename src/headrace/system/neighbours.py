"""The modules that a system file imports from its folder: read once, kept with the file, imported from what was kept.

A content of a system is the file alone where it imports none, else `HEADER` and MessagePack `[file, {path: module}]`, with
paths relative to the folder.
"""

from __future__ import annotations

import importlib.util
import linecache
from collections.abc import Iterable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate
from pathlib import Path
from types import CodeType, ModuleType

import msgspec

from headrace.kernel.errors import IncompatibleFormat
from headrace.kernel.ids import content_hash
from headrace.training.code import remembered_source

HEADER = b"\0headrace system 1\n"
"""No Python file begins so."""


def packed(file: bytes, modules: Mapping[str, bytes]) -> bytes:
    """The content of a file with its modules."""
    return file if not modules else HEADER + msgspec.msgpack.encode([file, dict(sorted(modules.items()))])


def unpacked(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The file and the modules of a content. IncompatibleFormat for one that a newer headrace wrote."""
    if content.startswith(b"\0") and not content.startswith(HEADER):
        raise IncompatibleFormat("a kept content of the system file has another format", hint="install a newer headrace")
    if not content.startswith(HEADER):
        return content, {}
    return msgspec.msgpack.decode(content[len(HEADER) :], type=tuple[bytes, dict[str, bytes]])


def remember(path: Path, source: bytes) -> str:
    """The file name under which tracebacks and `inspect` know this content of the file, whatever happens to it: `linecache`
    does not look at files again for an entry without a time; a second content has another name."""
    filename = str(path)
    if remembered_source(filename, source) != source:
        filename = f"{content_hash(source)[:12]}/{path.name}"
        remembered_source(filename, source)
    text = importlib.util.decode_source(source)
    linecache.cache[filename] = (len(source), None, text.splitlines(keepends=True), filename)
    return filename


class _Loader(SourceFileLoader):
    """Of a module whose source was read."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._file = path
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, remember(self._file, self._source), "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.origin = remember(self._file, self._source)
        super().exec_module(module)


class Neighbours(MetaPathFinder):
    """Imports the modules of `folder` while it is in `sys.meta_path`: as they were `kept`, those that were not from the folder.
    `read` are the sources, `names` the modules that came."""

    def __init__(self, folder: Path, kept: Mapping[str, bytes]) -> None:
        self.read: dict[str, bytes] = {}
        self.names: set[str] = set()
        self._folder = folder
        self._kept = kept

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        stem = fullname.rpartition(".")[2]
        own = [self._folder] if path is None else self._own(path)
        files = [file for place in own for file in (place / stem / "__init__.py", place / f"{stem}.py")]
        for file in files:
            if self._relative(file) in self._kept:
                return self._spec(fullname, file, self._kept[self._relative(file)])
        for place in own:  # a folder without `__init__.py`, which may be gone
            if any(kept.startswith(f"{self._relative(place / stem)}/") for kept in self._kept):
                found = ModuleSpec(fullname, None, is_package=True)
                found.submodule_search_locations = [str(place / stem)]
                self.names.add(fullname)
                return found
        return next((self._spec(fullname, file, file.read_bytes()) for file in files if file.is_file()), None)

    def _own(self, path: Iterable[str]) -> list[Path]:
        places = [Path(place) for place in path]
        return [place for place in places if place.is_relative_to(self._folder) and "site-packages" not in place.parts]

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()

    def _spec(self, name: str, file: Path, source: bytes) -> ModuleSpec | None:
        self.read[self._relative(file)] = source
        self.names.update(accumulate(name.split("."), "{}.{}".format))  # a folder without `__init__.py` is not read
        return importlib.util.spec_from_file_location(name, file, loader=_Loader(name, file, source))
