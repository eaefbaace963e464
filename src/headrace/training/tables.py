"""Catalog tables of the training room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, String, Table, Text

from headrace.engines.catalog.port import METADATA

RUNS = Table(
    "runs",
    METADATA,
    Column("system", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("status", String, nullable=False),
    Column("dataset", String, nullable=False),
    Column("code_hash", String, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("parent", String),
    Column("error", Text, nullable=False, default=""),
    Index("runs_by_model", "system", "model", "started_at"),
)

PARAMETERS = Table(
    "run_parameters",
    METADATA,
    Column("system", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", JSON),
)

METRICS = Table(
    "run_metrics",
    METADATA,
    Column("system", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("value", Float),
    Column("at", BigInteger, nullable=False),
)
"""One row a step; a step logged again has the newer value. A null value is not a number."""

TAGS = Table(
    "run_tags",
    METADATA,
    Column("system", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

ARTIFACTS = Table(
    "run_artifacts",
    METADATA,
    Column("system", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
)
"""Blobs by name: `estimator` (a pickle, read in compute children only), `lightgbm` (its text), `source` (the code)."""
