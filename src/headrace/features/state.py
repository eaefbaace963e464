"""The online state of one window view for one key, as one packed blob.

Header: three int64, little-endian: format, applied offset of the stream, applied offset of the report stream. Then int64
words column by column: time, offset, what tells the asking event (id, whether `where` keeps it), the aggregated columns
(floats by their bits, NaN for null; texts by hash) with a null flag where they may be null, the earliest report's time.
Events are ordered by (time, offset); those of attributes, which have a word of their creation, by (time, created, offset).
Where texts are given out, a second blob beside it has those of the hashes (`texts_of`); else a long state of windows has a
second one for what came lately, of the same form (`features/long_states.py`).

Keys are `{system}/view/{hash}/{key}`, `{system}/view/{hash}~text/{key}` and `{system}/view/{hash}~tail/{key}`, where the hash
is `{definition}.{identity}`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from headrace.data.frames import physical
from headrace.data.types import Field, StreamSpec
from headrace.features.frames import passing
from headrace.features.timeline import ALWAYS
from headrace.features.types import AttributeView, StoredView, WindowView
from headrace.features.words import ID_WORD, value_words
from headrace.kernel.errors import IncompatibleFormat
from headrace.kernel.ids import content_hash, key_bytes, key_hash
from headrace.kernel.namespace import Namespace

FORMAT = 2
READABLE = (1, FORMAT)
"""A state of format 1 is one of today without tails; who knows format 1 alone refuses what has been written since."""
HEADER = struct.Struct("<qqq")
_HEADER_WORDS = HEADER.size // 8
POSITIONS = struct.Struct("<qqqq")
NEVER = -(1 << 63)
LONGEST_KEY = 400


class Applied(NamedTuple):
    """How far a view is applied: the last offsets of its stream and its reports (-1: none), and its stream's watermark."""

    stream: int = -1
    report: int = -1
    watermark: int = NEVER

    def pack(self) -> bytes:
        return POSITIONS.pack(FORMAT, self.stream, self.report, self.watermark)

    @classmethod
    def unpack(cls, blob: bytes | None) -> Applied:
        if blob is None:
            return cls()
        found, stream, report, watermark = POSITIONS.unpack(blob)
        if found not in READABLE:
            raise IncompatibleFormat(f"the online state has format {found}, this headrace reads up to {FORMAT}",
                                     hint="delete the online folder: it is rebuilt")  # fmt: skip
        return cls(stream, report, watermark)


@dataclass(frozen=True)
class StateLayout:
    """Keys and words of the state of `view` in the system `namespace`."""

    view: StoredView
    stream: StreamSpec
    namespace: Namespace

    def field(self, column: str | None) -> Field:
        assert column is not None
        return self.stream.field(column)

    @cached_property
    def tells_own(self) -> bool:
        """Whether the asking event may be among the windowed ones: only without a delay."""
        return self.view.delay == 0

    @cached_property
    def keeps_filtered(self) -> bool:
        """Whether events that `where` drops are kept: one of them may be the asking event, which orders ties."""
        return self.tells_own and self.view.predicate is not None

    @cached_property
    def has_tails(self) -> bool:
        """Whether a long state is in two blobs: attributes keep few events, and texts are written with all of them."""
        return isinstance(self.view, WindowView) and not self.view.text_sources

    @cached_property
    def words(self) -> dict[str, int]:
        """The number of each word of an event."""
        names = ["time", "offset"]
        names += ["id"] if self.tells_own else []
        names += ["created"] if isinstance(self.view, AttributeView) else []
        names += ["passes"] if self.keeps_filtered else []
        for column in self.view.source_columns:
            names.append(f"value {column}")
            if self.field(column).nullable and self.field(column).type != "float":
                names.append(f"valid {column}")
        names += ["reported"] if self.view.join is not None else []
        return {name: number for number, name in enumerate(names)}

    @cached_property
    def applied_key(self) -> bytes:
        return self.namespace.name("view", f"{self.view.definition_hash}.{self.identity}").encode()

    @cached_property
    def identity(self) -> str:
        """Tells states of one definition that cannot go on from each other: the lateness says what was trimmed, the fields
        which words there are."""
        s = self.stream
        fields = [(name, self.field(name).type) for name in (*self.view.by, *self.view.source_columns)]
        return content_hash([s.lateness, s.id, s.time, s.created, list(self.words), fields])[:8]

    def applied_key_of(self, partition: int) -> bytes:
        """Where it stands how far the view is applied, for the keys of one partition of its stream."""
        return self.applied_key if partition == 0 else self.applied_key + b"@%d" % partition

    @cached_property
    def prefix(self) -> bytes:
        return self.applied_key + b"/"

    def key(self, entity: bytes, part: bytes = b"") -> bytes:
        """The key of the state of an entity, given by its canonical key bytes."""
        if len(entity) <= LONGEST_KEY:
            return self.applied_key + part + b"/" + entity
        hashed = key_hash(entity.decode()).to_bytes(8, "big", signed=True)
        return self.applied_key + part + b"#" + hashed + entity[:LONGEST_KEY]

    def keys(self, entities: Sequence[bytes]) -> list[bytes]:
        """The key of the state of each entity."""
        prefix = self.prefix
        return [prefix + entity if len(entity) <= LONGEST_KEY else self.key(entity) for entity in entities]

    def tail_key(self, entity: bytes) -> bytes:
        """The key of what came lately to the long state of an entity."""
        return self.key(entity, b"~tail")

    def texts_key(self, entity: bytes) -> bytes:
        """The key of the texts that the state of an entity has words of."""
        return self.key(entity, b"~text")

    def events(self, frame: pl.DataFrame) -> np.ndarray:
        """The words of events (`with_id_words`), int64 [words, n]; not yet reported."""
        columns: dict[str, np.ndarray] = {
            "time": physical(frame[self.stream.time]).to_numpy(), "offset": frame["_offset"].to_numpy(),
        }  # fmt: skip
        if self.tells_own:
            columns["id"] = frame[ID_WORD].to_numpy()
        if "created" in self.words:
            columns["created"] = frame["_created"].to_numpy()
        if self.keeps_filtered:
            columns["passes"] = passing(self.view, self.stream, frame)
        for column in self.view.source_columns:
            columns[f"value {column}"] = value_words(frame[column])
            if f"valid {column}" in self.words:
                columns[f"valid {column}"] = frame[column].is_not_null().to_numpy()
        columns["reported"] = np.broadcast_to(ALWAYS, len(frame))
        return np.array([columns[name] for name in self.words], dtype=np.int64).reshape(len(self.words), len(frame))


def entity_keys(frame: pl.DataFrame, by: Sequence[str], rows: np.ndarray | None = None) -> list[bytes]:
    """The canonical key bytes of the rows, by default of all."""
    if not by:
        return [key_bytes(())] * (len(frame) if rows is None else len(rows))
    if len(by) == 1 and frame.schema[by[0]].is_integer() and not frame[by[0]].null_count():
        numbers = frame[by[0]].to_numpy()
        return [b"%d" % number for number in (numbers if rows is None else numbers[rows]).tolist()]
    if rows is not None:
        frame = frame.select(by)[rows]
    if len(by) == 1 and frame.schema[by[0]] == pl.String:
        return [b"null" if value is None else value.encode() for value in frame[by[0]].to_list()]
    return [key_bytes(row) for row in frame.select(pl.col(by).to_physical()).rows()]


def texts_of(blobs: Iterable[bytes | None]) -> dict[int, str]:
    """The texts of the words in some states."""
    found: dict[int, str] = {}
    for blob in blobs:
        if blob is not None:
            found.update(msgspec.msgpack.decode(blob, type=dict[int, str]))
    return found


def pack_texts(words: np.ndarray, texts: Mapping[int, str]) -> bytes | None:
    """The texts of the words, None for none."""
    held = {word: texts[word] for word in dict.fromkeys(words.ravel().tolist()) if word in texts}
    return msgspec.msgpack.encode(held) if held else None


def unpack_states(blobs: Sequence[bytes | None], words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All events of the blobs, int64 [words, n]; the number of the blob of each; the applied offsets of the stream and of
    the reports, int64 [blobs, 2]."""
    empty = HEADER.pack(FORMAT, -1, -1)
    present = [empty if blob is None else blob for blob in blobs]
    lengths = np.fromiter(map(len, present), np.int64, len(present)) // 8
    flat = np.frombuffer(b"".join(present), np.int64)
    first = np.cumsum(lengths) - lengths
    guards = np.array([flat[first + 1], flat[first + 2]]).T
    sizes = (lengths - _HEADER_WORDS) // words
    code = np.repeat(np.arange(len(blobs)), sizes)
    return flat[_places(first, sizes, words)], code, guards


def pack_states(
    events: np.ndarray, sizes: np.ndarray, stream: np.ndarray | int, report: np.ndarray | int
) -> list[bytes | None]:
    """One blob for each run of `sizes` events, None for a run of none, with the applied offsets of each."""
    lengths = _HEADER_WORDS + sizes * len(events)
    ends = np.cumsum(lengths)
    first = ends - lengths
    flat = np.empty(int(lengths.sum()), np.int64)
    flat[first], flat[first + 1], flat[first + 2] = FORMAT, stream, report
    flat[_places(first, sizes, len(events))] = events
    raw = flat.tobytes()
    blobs: list[bytes | None] = [raw[a:b] for a, b in pairwise([0, *(8 * ends).tolist()])]
    for empty in np.flatnonzero(sizes == 0).tolist():
        blobs[empty] = None
    return blobs


def _places(first: np.ndarray, sizes: np.ndarray, words: int) -> np.ndarray:
    """int64 [words, n]: where each word of each event stands in the joined blobs, which begin at the words `first`."""
    places = np.empty((words, int(sizes.sum())), np.int64)
    places[0] = np.repeat(first + _HEADER_WORDS - (np.cumsum(sizes) - sizes), sizes)
    places[0] += np.arange(places.shape[1])
    steps = np.repeat(sizes, sizes)
    for word in range(1, words):
        np.add(places[word - 1], steps, out=places[word])
    return places
