"""Every domain's catalog tables, so that one import puts them all on METADATA, and those of the application itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

import headrace.data.tables
import headrace.governance.tables
import headrace.ledger.tables
import headrace.monitoring.tables
import headrace.pipelines.tables
import headrace.registry.tables
import headrace.release.tables
import headrace.serving.tables
import headrace.system.tables
import headrace.training.tables  # noqa: F401
from headrace.engines.catalog.port import METADATA

systems = Table(
    "systems",
    METADATA,
    Column("system", String, primary_key=True),
    Column("file", String),
    Column("file_hash", String),
    Column("clock", String, nullable=False),
    Column("first_run_at", BigInteger, nullable=False),
    Column("last_run_at", BigInteger, nullable=False),
)
"""The systems that ran in this installation. `file` is the absolute system file (with `:NAME` where one was named), null
for an empty platform; `clock` is real or virtual; the times are machine-clock microseconds."""

answers = Table(
    "operation_answers",
    METADATA,
    Column("system", String, primary_key=True),
    Column("principal", String, primary_key=True),
    Column("operation", String, primary_key=True),
    Column("idempotency_key", String, primary_key=True),
    Column("arguments_hash", String, nullable=False),
    Column("result", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Results of changing operations by idempotency key: a retry gets the first answer. Secrets are not kept (`***`). `result` is
"" from before the operation acts until its end is recorded; `at` is the machine-clock microsecond of the last change."""
