"""Catalog tables of the monitoring room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, String, Table

from headrace.engines.catalog.port import METADATA

alarms = Table(
    "alarms",
    METADATA,
    Column("id", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("service", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("window_from", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("feature", String, nullable=False),
    Column("statistic", String, nullable=False),
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("version", BigInteger, nullable=False),
)
"""The id is derived from service, window end, kind and feature: raising an alarm again changes nothing."""

watch_states = Table(
    "watch_states",
    METADATA,
    Column("system", String, primary_key=True),
    Column("service", String, primary_key=True),
    Column("evaluated_to", BigInteger, nullable=False),
    Column("decay_version", BigInteger),
    Column("decay_offset", BigInteger, nullable=False),
    Column("decay_level", Float, nullable=False),
    Column("decay_rows", BigInteger, nullable=False),
    Column("decay_since", BigInteger),
)
"""`evaluated_to` is the end of the last window judged. The CUSUM of the losses of `decay_version` stands at `decay_level`
after `decay_rows` mature answers asked from `decay_since` on; the prediction log is read up to `decay_offset`, exclusive."""
