"""Catalog tables of the pipeline room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Integer, String, Table, Text

from headrace.engines.catalog.port import METADATA

PIPELINES = Table(
    "pipelines",
    METADATA,
    Column("system", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("error", Text, nullable=False, default=""),
)

STEPS = Table(
    "pipeline_steps",
    METADATA,
    Column("system", String, primary_key=True),
    Column("pipeline", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("seconds", Float),
    Column("result", JSON),
    Column("error", Text, nullable=False, default=""),
)
