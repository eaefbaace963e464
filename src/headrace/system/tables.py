"""Catalog tables of the system room."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, String, Table

from headrace.engines.catalog.port import METADATA

retrainings = Table(
    "retrainings",
    METADATA,
    Column("id", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("service", String, nullable=False),
    Column("alarm", String, nullable=False),
    Column("known_at", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("dataset", String),
    Column("version", BigInteger),
    Column("comparison", JSON),
    Column("reason", String, nullable=False, default=""),
)
"""One row a retraining. `known_at` is the event time at which it is done: only labels mature by then are used. `state` is
scheduled, running, released, waiting (for a person), rejected (the champion stays) or failed."""

alarm_decisions = Table(
    "alarm_decisions",
    METADATA,
    Column("alarm", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("retraining", String),
    Column("reason", String, nullable=False),
)
"""What the policy made of each drift alarm: the retraining it began, or (null) why it began none."""

loop_state = Table(
    "loop_state",
    METADATA,
    Column("system", String, primary_key=True),
    Column("settled_at", BigInteger, nullable=False),
)
"""On a virtual clock: the event time up to which the loop has decided everything."""
