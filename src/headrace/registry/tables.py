"""Catalog tables of the registry room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table, Text

from headrace.engines.catalog.port import METADATA

VERSIONS = Table(
    "model_versions",
    METADATA,
    Column("system", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("engine", String, nullable=False),
    Column("artifact", String, nullable=False),
    Column("dataset", String),
    Column("run", String),
    Column("content_hash", String, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""`facts`: features, definition_hashes, proof, golden, reference, signature, metrics."""

APPROVALS = Table(
    "model_approvals",
    METADATA,
    Column("id", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("name", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("by", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

LINEAGE = Table(
    "lineage",
    METADATA,
    Column("system", String, primary_key=True),
    Column("child", String, primary_key=True),
    Column("parent", String, primary_key=True),
)

DECLARATIONS = Table(
    "declarations",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("system", String, nullable=False),
    Column("source", String, nullable=False),
    Column("definitions", JSON, nullable=False),
    Column("by", String, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""What the system has declared over time, the newest row what runs: `source` is the blob of the file; `definitions` are the
hashes of the views and functions in it."""
