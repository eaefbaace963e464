"""What stands in a leaf: the outbox row as deterministic JSON, so that each can be computed from the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row

from headrace.ledger.merkle import HashedLeaves, leaf_hash
from headrace.ledger.tiles import LARGEST_ENTRY

FORMAT = 1
PREDICTIONS = "predictions"
_encoder = msgspec.json.Encoder(order="deterministic")


def entry_of(row: Row[Any]) -> bytes:
    """The log entry of an outbox row. A payload that is too long for a leaf is represented by its SHA-256."""
    entry = {
        "format": FORMAT,
        "id": row.id,
        "system": row.system,
        "kind": row.kind,
        "subject": row.subject,
        "payload": msgspec.Raw(row.payload.encode()),
        "actor": {"id": row.actor_id, "name": row.actor_name, "role": row.actor_role},
        "at": row.at,
        "machine_at": row.machine_at,
    }
    encoded = _encoder.encode(entry)
    if len(encoded) > LARGEST_ENTRY:
        entry["payload"] = {"sha256": hashlib.sha256(row.payload.encode()).hexdigest(), "bytes": len(row.payload.encode())}
        encoded = _encoder.encode(entry)
    return encoded


def id_of(entry: bytes) -> str:
    """The id in an entry; "" when the bytes are not one of ours."""
    try:
        return str(msgspec.json.decode(entry)["id"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""


def batch_tree(values: Sequence[bytes]) -> HashedLeaves:
    """The tree whose root is the digest of a batch of prediction records: RFC 6962 over the records as logged."""
    return HashedLeaves([leaf_hash(value) for value in values])
