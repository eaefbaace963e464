"""Identifiers and canonical bytes: the same key bytes in the router, the online store and the join."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput

_encoder = msgspec.json.Encoder(order="deterministic")
_hash64 = partial(hashlib.blake2b, digest_size=8)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Key = str | int | bool | None | tuple[Any, ...]


def key_text(key: Key) -> str:
    """The canonical text of an entity key: `str(value)`; a tuple is compact JSON, `(1, "a")` -> `[1,"a"]`.

    A tuple of one is its only value.
    """
    if isinstance(key, str):
        return key
    if isinstance(key, tuple | list):
        if len(key) == 1:
            return key_text(key[0])
        return _encoder.encode(list(key)).decode()
    if key is None or isinstance(key, bool):
        return _encoder.encode(key).decode()
    return str(key)


def key_bytes(key: Key) -> bytes:
    """UTF-8 of `key_text`."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, tuple) and len(key) > 1:
        return _encoder.encode(key)
    return key_text(key).encode()


def key_hash(key: Key) -> int:
    """A signed 64-bit hash of the canonical key bytes (BLAKE2b), the same on every machine."""
    return int.from_bytes(_hash64(key_bytes(key)).digest(), "little", signed=True)


def text_hashes(texts: Sequence[str]) -> list[bytes]:
    """The eight bytes of `key_hash` of each text, little-endian."""
    return [digest.digest() for digest in map(_hash64, map(str.encode, texts))]


def content_hash(value: object) -> str:
    """SHA-256 of the deterministic JSON of `value` (bytes are hashed as they are), as hex."""
    raw = value if isinstance(value, bytes) else _encoder.encode(value)
    return hashlib.sha256(raw).hexdigest()


def new_id() -> str:
    """A UUID version 7 (RFC 9562) as 32 hex digits: ordered by creation time."""
    milliseconds = MACHINE.now() // 1000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds << 80) | (0x7 << 76) | ((random >> 64 & 0xFFF) << 64)
    value |= (0b10 << 62) | (random & (1 << 62) - 1)
    return f"{value:032x}"


def checked_name(kind: str, name: str) -> str:
    """`name` when it may name a system, stream, view, model or service; else InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"`{name}` cannot name a {kind}; allowed: a lower-case letter, then letters, digits and `_`, at most 63",
            hint="choose a name such as `card_fraud`",
        )
    return name


def snake_case(name: str) -> str:
    """`FraudReport` -> `fraud_report`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
