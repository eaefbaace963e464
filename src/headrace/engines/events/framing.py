"""The bytes of a record batch, the unit that is appended whole or not at all.

Batch, little-endian::

    magic "HRLB" | version u16 | flags u16 | base offset i64 | count u32 | payload length u32 | timestamp i64 | CRC32C u32
    payload: u32[count] key lengths | u32[count] header lengths | u32[count] value lengths | keys | headers | values

Keys are absent without flag 1, headers without flag 2; with flag 4 all records share one header (one length, one text).
The checksum covers the payload, then the header before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from crc32c import crc32c

from headrace.engines.events.port import Records
from headrace.kernel.errors import CheckFailed, IncompatibleFormat, InvalidInput, TooLarge

MAGIC = b"HRLB"
VERSION = 1
HAS_KEYS, HAS_HEADERS, ONE_HEADER = 1, 2, 4
MAX_PAYLOAD = 1 << 30
_PREFIX = struct.Struct("<4sHHqIIq")
_CHECKSUM = struct.Struct("<I")
HEADER_SIZE = _PREFIX.size + _CHECKSUM.size
_U32 = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Payload:
    """An encoded batch that has no offset yet."""

    flags: int
    count: int
    content: bytes
    checksum: int

    def header(self, base: int, timestamp: int) -> bytes:
        """The batch header once the offset of the first record is known."""
        prefix = _PREFIX.pack(MAGIC, VERSION, self.flags, base, self.count, len(self.content), timestamp)
        return prefix + _CHECKSUM.pack(crc32c(prefix, self.checksum))


@dataclass(frozen=True, slots=True)
class BatchHeader:
    flags: int
    base: int
    count: int
    length: int
    timestamp: int
    checksum: int
    prefix: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return HEADER_SIZE + self.length

    def matches(self, payload: memoryview) -> bool:
        """Whether the checksum holds over payload and header."""
        return bool(crc32c(self.prefix, crc32c(payload)) == self.checksum)


def _lengths(texts: Sequence[bytes]) -> bytes:
    return np.fromiter(map(len, texts), _U32, len(texts)).tobytes()


def encode(values: Sequence[bytes], keys: Sequence[bytes] | None, headers: Sequence[bytes] | None) -> Payload:
    """Frame the records. InvalidInput for columns of unequal length, TooLarge above 1 GiB."""
    count = len(values)
    for name, column in (("keys", keys), ("headers", headers)):
        if column is not None and len(column) != count:
            raise InvalidInput(f"{len(column)} {name} for {count} values", hint="give one for each value")
    flags = 0
    parts: list[bytes] = []
    texts: list[bytes] = []
    if keys is not None:
        flags |= HAS_KEYS
        parts.append(_lengths(keys))
        texts.extend(keys)
    if headers is not None:
        flags |= HAS_HEADERS
        shared = headers[0]
        if headers.count(shared) == count:
            flags |= ONE_HEADER
            headers = [shared]
        parts.append(_lengths(headers))
        texts.extend(headers)
    parts.append(_lengths(values))
    texts.extend(values)
    content = b"".join(parts + texts)
    if len(content) > MAX_PAYLOAD:
        raise TooLarge(f"a batch of {len(content)} bytes; allowed: {MAX_PAYLOAD}", hint="append it in several batches")
    return Payload(flags, count, content, crc32c(content))


def parse_header(buffer: bytes | memoryview, at: int = 0) -> BatchHeader | None:
    """The header at `at`, or None when these bytes are no batch header (torn, or not written yet).

    Raises IncompatibleFormat for a batch of a newer format.
    """
    if len(buffer) - at < HEADER_SIZE:
        return None
    magic, version, flags, base, count, length, timestamp = _PREFIX.unpack_from(buffer, at)
    if magic != MAGIC:
        return None
    if version > VERSION:
        raise IncompatibleFormat.newer("a batch of the event log", version, VERSION)
    (checksum,) = _CHECKSUM.unpack_from(buffer, at + _PREFIX.size)
    return BatchHeader(flags, base, count, length, timestamp, checksum, bytes(buffer[at : at + _PREFIX.size]))


def _split(payload: memoryview, starts: np.ndarray, first: int, last: int) -> list[bytes]:
    bounds = starts[first : last + 1].tolist()
    raw = payload[bounds[0] : bounds[-1]].tobytes()
    if last - first == 1:
        return [raw]
    shift = bounds[0]
    return [raw[a - shift : b - shift] for a, b in pairwise(bounds)]


def decode_into(records: Records, header: BatchHeader, payload: memoryview, first: int, last: int, where: str) -> None:
    """Add the records `first` .. `last - 1` of a batch (indices within it) to `records`.

    Raises CheckFailed when the checksum does not hold.
    """
    if not header.matches(payload):
        raise CheckFailed(
            f"the batch at offset {header.base} in `{where}` does not match its checksum",
            hint="restore the data folder from a backup: `headrace restore`",
        )
    count = header.count
    if count == 1 and not header.flags:
        records.keys.append(b"")
        records.headers.append(b"")
        records.values.append(payload[4:].tobytes())
        records.timestamps.append(header.timestamp)
        return
    sizes = [count] if header.flags & HAS_KEYS else []
    if header.flags & HAS_HEADERS:
        sizes.append(1 if header.flags & ONE_HEADER else count)
    sizes.append(count)
    lengths = np.frombuffer(payload, _U32, sum(sizes))
    starts = np.empty(len(lengths) + 1, np.int64)
    starts[0] = 4 * len(lengths)
    np.cumsum(lengths, out=starts[1:])
    starts[1:] += starts[0]
    wanted = last - first
    at = 0
    if header.flags & HAS_KEYS:
        records.keys += _split(payload, starts, first, last)
        at = count
    else:
        records.keys += [b""] * wanted
    if header.flags & ONE_HEADER:
        records.headers += _split(payload, starts, at, at + 1) * wanted
        at += 1
    elif header.flags & HAS_HEADERS:
        records.headers += _split(payload, starts, at + first, at + last)
        at += count
    else:
        records.headers += [b""] * wanted
    records.values += _split(payload, starts, at + first, at + last)
    records.timestamps += [header.timestamp] * wanted
