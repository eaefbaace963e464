"""Catalog tables of the release room. Times `at` are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, String, Table, Text

from headrace.engines.catalog.port import METADATA

deployments = Table(
    "deployments",
    METADATA,
    Column("system", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("machine_at", BigInteger, nullable=False),
    Column("champion", BigInteger),
    Column("challenger", BigInteger),
    Column("weight", Float, nullable=False),
    Column("salt", String, nullable=False),
    Column("shadows", Text, nullable=False),
    Column("rollout", String),
    Column("step", Integer),
    Column("by", String, nullable=False),
    Column("reason", Text, nullable=False),
)
"""The history of the route table: one row a generation. `shadows` is a JSON list of versions; `step` is the index of the
rollout's step that these routes belong to."""

rollouts = Table(
    "rollouts",
    METADATA,
    Column("id", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("service", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("held_from", String),
    Column("step", Integer, nullable=False),
    Column("entered_at", BigInteger, nullable=False),
    Column("champion", BigInteger),
    Column("challenger", BigInteger, nullable=False),
    Column("weight", Float, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("policy", Text, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("guards", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row a rollout; its id is also its salt. `step` indexes the policy's steps, -1 while warming. `guards` (JSON) is what
the guards know from the prediction log up to `next_offset`, exclusive: one row, so that both change together. `revision`
grows with each change; `first_offset` is the end of the prediction log when the rollout began."""

rollout_entities = Table(
    "rollout_entities",
    METADATA,
    Column("rollout", String, primary_key=True),
    Column("entity", BigInteger, primary_key=True),
    Column("system", String, nullable=False),
    Column("bits", Integer, nullable=False),
)
"""What each entity (its key hash) has counted for: the bits of guards.py."""

rollout_events = Table(
    "rollout_events",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("system", String, nullable=False),
    Column("rollout", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("from_state", String, nullable=False),
    Column("to_state", String, nullable=False),
    Column("by", String, nullable=False),
    Column("reason", Text, nullable=False),
)
