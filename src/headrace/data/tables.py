"""Catalog tables of the data room. Times are microseconds of the event clock."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, String, Table

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
"""One row per partition of a stream, `NAME@PARTITION` from partition 1 on: the next offset to apply, and what became of all
before it; `watermark` is the newest event time."""

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

STREAM_PRODUCERS = Table(
    "stream_producers",
    METADATA,
    Column("system", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("producer", String, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("state", JSON),
    Column("offset", BigInteger),
    Column("announced", JSON),
    Column("announced_from", BigInteger),
    Column("changed_at", BigInteger, nullable=False),
)
"""One row per producer of a stream that appends each batch once: `sequence` is the number of its last batch in the log,
which begins at `offset`, and `state` what that left. `announced` is the state of the next batch, from before it is appended
until it is noted; `announced_from` the end of the log at that moment. `changed_at` is machine-clock microseconds."""

SOURCES = Table(
    "sources",
    METADATA,
    Column("system", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("next_at", BigInteger, nullable=False),
    Column("read_at", BigInteger),
    Column("rows", BigInteger, nullable=False),
    Column("error", String),
)
"""One row per batch source that was read: when it is due next and when it was read last (event-clock microseconds), how many
rows it gave in all, and the error of the last reading. The watermark of a query is the state of its producer."""

SOURCE_FILES = Table(
    "source_files",
    METADATA,
    Column("system", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("file", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
)
"""The files of a folder that are in the log, with the size and time (nanoseconds) they had: others are looked into."""

CONTRACT_RESULTS = Table(
    "contract_results",
    METADATA,
    Column("system", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("severity", String, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""One row per applied batch and rule that did not hold in it: `first` is the position at which the batch begins, `events` its
length, `failed` how many of them the rule refused or warned of, `at` event-clock microseconds. Only the newest batches have
their own rows; `first` -1 is the sum of those before, per rule."""

STREAM_CHECKS = Table(
    "stream_checks",
    METADATA,
    Column("system", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("good", Boolean),
    Column("found", String, nullable=False),
    Column("allowed", String, nullable=False),
    Column("judged_at", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
)
"""The last judgement of each rule of a stream as a whole (fresh, volume): `good` is null while too little is known; since when
it has been so, and when it was judged last, event-clock microseconds."""

STREAM_SCHEMAS = Table(
    "stream_schemas",
    METADATA,
    Column("system", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("schema", JSON, nullable=False),
    Column("applied_at", BigInteger, nullable=False),
)
"""The schemas under which each stream ran, the newest has the highest version: its fields and their roles, as
`schemas.schema_of` gives them; `applied_at` is event-clock microseconds."""
