"""The ledger's catalog tables. One Merkle log serves every system of the installation."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text

from headrace.engines.catalog.port import METADATA

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("system", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("actor_id", String, nullable=False),
    Column("actor_name", String, nullable=False),
    Column("actor_role", String, nullable=False),
    Column("at", Integer, nullable=False),
    Column("machine_at", Integer, nullable=False),
    Column("leaf", Integer, unique=True),
    Index("outbox_by_subject", "system", "kind", "subject"),
    sqlite_autoincrement=True,
)
"""What was done, in order. `payload` is deterministic JSON; `at` event time and `machine_at` machine time in
microseconds; `leaf` is the index in the Merkle log, null until the sequencer has come by."""

LEDGER = Table(
    "ledger",
    METADATA,
    Column("system", String, primary_key=True),
    Column("origin", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("note", Text, nullable=False),
)
"""One row, `system` is `*`: the name of the log, its size, and the last signed checkpoint ("" before the first)."""

BATCHES = Table(
    "prediction_batches",
    METADATA,
    Column("system", String, nullable=False),
    Column("topic", String, primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("next", Integer, nullable=False),
    Column("outbox", String, nullable=False),
)
"""Prediction-log records `first` .. `next - 1` of `topic` are digested in the leaf of this outbox id."""
