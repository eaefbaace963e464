"""The sticky router: a pure function of salt, entity and weight, the same in every process and after every restart."""

from __future__ import annotations

from hashlib import blake2b


def bucket(salt: str, entity: str) -> float:
    """The entity's place in [0, 1): the first 8 bytes of BLAKE2b(salt, 0, entity) over 2^64 (INTERFACE.md).

    `entity` is the canonical text of the key (`kernel.ids.key_text`).
    """
    digest = blake2b(salt.encode() + b"\0" + entity.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_challengers(salt: str, entity: str, weight: float) -> bool:
    """Whether the challenger answers this entity. Raising `weight` only adds entities."""
    return bucket(salt, entity) < weight
