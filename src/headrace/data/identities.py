"""The identity of events: the same id with the same content is a redelivery, with other content it is refused.

The index lives in the online store under `{system}/ids/{stream}/{id}`: position of the accepted event and content hash.
It is derived: whatever is missing is rebuilt from the history. Partitions share it: an id is accepted once in the stream.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.data.fencing import Fence
from headrace.data.frames import physical
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.ids import key_bytes
from headrace.kernel.partitions import base_of, came_before

_ENTRY = struct.Struct("<q16s")
_NEXT = struct.Struct("<q")
_encode = msgspec.json.Encoder().encode
_blake2b = partial(hashlib.blake2b, digest_size=16)
_CHUNK = 65_536
LONGEST_KEY = 500
"""Bytes of a key of the online store."""


@dataclass(frozen=True, slots=True)
class Identified:
    """bool[n] masks over the rows of a frame: neither is a new event; what the index has to learn, and what it held."""

    redelivered: np.ndarray
    conflicting: np.ndarray
    entries: dict[bytes, bytes | None]
    before: dict[bytes, bytes | None]

    @property
    def accepted(self) -> np.ndarray:
        fresh: np.ndarray = ~(self.redelivered | self.conflicting)
        return fresh


def content_hashes(spec: StreamSpec, frame: pl.DataFrame) -> list[bytes]:
    """BLAKE2b-128 of each row's declared fields that are neither null nor their default, by name: equal however the JSON was
    written, and whether a field was declared by then."""
    names = sorted(field.name for field in spec.fields)
    columns = [physical(frame[name]).to_list() for name in names]
    for place, default in ((names.index(f.name), f.default) for f in spec.fields if f.default is not None):
        columns[place] = [None if value == default else value for value in columns[place]]
    documents = map(_encode, map(_document_type(tuple(names)), *columns))
    return [digest.digest() for digest in map(_blake2b, documents)]


@lru_cache(maxsize=256)
def _document_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """JSON objects with these members in this order, those that are None left out."""
    return msgspec.defstruct("Document", [(name, Any, None) for name in names], omit_defaults=True, gc=False)


class IdentityIndex:
    """What ids of one stream were accepted, and where; `partition` is the one that the index is asked for."""

    def __init__(self, ctx: Context, spec: StreamSpec, partition: int = 0) -> None:
        self._online = ctx.online
        self._spec = spec
        self._prefix = ctx.namespace.name("ids", spec.name, "").encode()
        own = () if partition == 0 else (str(partition),)
        self._marker = ctx.namespace.name("ids_applied", spec.name, *own).encode()
        self.base = base_of(partition)

    def next_offset(self) -> int:
        """The index knows every event of the partition before this position."""
        stored = self._online.get(self._marker)
        return self.base if stored is None else int(_NEXT.unpack(stored)[0])

    def keys(self, ids: pl.Series) -> list[bytes]:
        values = physical(ids).to_list()
        if ids.dtype.is_integer():
            return [self._prefix + b"%d" % value for value in values]
        texts = [value.encode() if isinstance(value, str) else key_bytes(value) for value in values]
        if len(self._prefix) + max(map(len, texts), default=0) <= LONGEST_KEY:
            return [self._prefix + text for text in texts]
        return [self._key(text) for text in texts]

    def _key(self, text: bytes) -> bytes:
        if len(self._prefix) + len(text) <= LONGEST_KEY:
            return self._prefix + text
        return self._prefix + b"\0" + hashlib.blake2b(text, digest_size=32).digest()

    def identify(self, frame: pl.DataFrame) -> Identified:
        """Compare events (sorted by `_offset`) with those before them. An event that the index already has at the same
        offset is itself: the step that entered it was interrupted and is done again."""
        keys = self.keys(frame[self._spec.id])
        hashes = content_hashes(self._spec, frame)
        offsets = frame["_offset"].to_list()
        redelivered = np.zeros(len(keys), bool)
        conflicting = np.zeros(len(keys), bool)
        known = dict(zip(keys, map(_ENTRY.pack, offsets, hashes), strict=True))
        ordered = sorted(known)  # neighbours lie in one page of the store
        found = dict(zip(ordered, self._online.get_many(ordered), strict=True))
        if len(known) == len(keys) and not any(found.values()):
            return Identified(redelivered, conflicting, {key: known[key] for key in ordered}, dict.fromkeys(ordered))
        entries, before = dict[bytes, bytes | None](), dict[bytes, bytes | None]()
        for row, (key, digest, offset) in enumerate(zip(keys, hashes, offsets, strict=True)):
            stored = found[key]
            entry = entries.get(key) or stored
            if entry is not None:
                earlier, content = _ENTRY.unpack(entry)
                if came_before(earlier, offset):
                    (redelivered if content == digest else conflicting)[row] = True
                    continue
            entries[key] = _ENTRY.pack(offset, digest)
            before[key] = stored
        return Identified(redelivered, conflicting, entries, before)

    def positions(self, keys: Sequence[bytes]) -> list[int | None]:
        """Where the events of some `keys` were accepted, None for an id that was not or that the index does not know yet."""
        return [None if entry is None else int(_ENTRY.unpack(entry)[0]) for entry in self._online.get_many(keys)]

    def store(self, identified: Identified, next_offset: int, fence: Fence) -> bool:
        """Learn the accepted events of one batch, all at once; False when another partition has accepted one of the ids
        since `identify`, Fenced when the partition is another process's."""
        changes = identified.entries | {self._marker: _NEXT.pack(next_offset)}
        return fence.write(changes, identified.before if self._spec.partitions > 1 else None)

    def rebuild(self, history: pl.DataFrame, next_offset: int) -> None:
        """Enter every accepted event again, after the online store was lost."""
        for part in history.iter_slices(_CHUNK):
            pairs = zip(self.keys(part[self._spec.id]), part["_offset"], content_hashes(self._spec, part), strict=True)
            self._online.write({key: _ENTRY.pack(offset, digest) for key, offset, digest in pairs})
        self._online.write({self._marker: _NEXT.pack(next_offset)})
