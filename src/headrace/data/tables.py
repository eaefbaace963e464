"""Catalog tables of the data room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, String, Table

from headrace.engines.catalog.port import METADATA

STREAM_POSITIONS = Table(
    "stream_positions",
    METADATA,
    Column("system", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("redelivered", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
    Column("watermark", BigInteger),
)
"""One row per stream: the next offset to apply, and what became of all before it; `watermark` is the newest event time."""

DATASET_VERSIONS = Table(
    "dataset_versions",
    METADATA,
    Column("system", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("content_hash", String, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("created_at", String, nullable=False),
)
