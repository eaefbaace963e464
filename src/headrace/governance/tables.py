"""The governance room's catalog tables."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table

from headrace.engines.catalog.port import METADATA

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("system", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("revoked_at", Integer),
)
"""`digest` is the SHA-256 of the secret; times are microseconds of the machine clock."""
