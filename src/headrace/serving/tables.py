"""The catalog tables of the serving room: what serves now, which workers have it ready, and the last parity checks."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, Text

from headrace.engines.catalog.port import METADATA

routes = Table(
    "routes",
    METADATA,
    Column("system", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("route", Text, nullable=False),
)
"""`route` is the JSON of a RouteTable."""

route_acks = Table(
    "route_acks",
    METADATA,
    Column("system", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("worker", String, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("versions_ready", Text, nullable=False),
    Column("versions_failed", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""`versions_ready` is a JSON list of version numbers, `versions_failed` a JSON object of number to reason; `at` is
machine-clock microseconds."""

parity_results = Table(
    "parity_results",
    METADATA,
    Column("system", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("values_compared", BigInteger, nullable=False),
    Column("values_different", BigInteger, nullable=False),
    Column("values_stale", BigInteger, nullable=False),
    Column("max_staleness_s", Float, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""The last parity check of each service; `at` is machine-clock microseconds."""
