"""What users can do with streams, quarantined events and dataset versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from headrace.data import comparing, contract_results, datasets, quarantine, replaying, vacuuming
from headrace.data.comparing import DatasetDiff
from headrace.data.contract_results import ContractReport
from headrace.data.ingest import IngestResult, ingest
from headrace.data.quarantine import Chosen
from headrace.data.sources import SourceReading, SourceStatus, read_source, source_status
from headrace.data.status import stream_status
from headrace.data.types import DatasetVersion, QuarantineEntry, StreamStatus
from headrace.data.vacuuming import VacuumedTable
from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation


@operation("streams.list", permission=Permission.READ, http="GET /streams", cli="streams list")
def list_streams(ctx: Context) -> list[StreamStatus]:
    """List the streams: position, lag, counts of accepted, redelivered and quarantined events, watermark."""
    return stream_status(ctx)


@operation(
    "streams.ingest", permission=Permission.WRITE_EVENTS, changes=True, cli="ingest", found_bad=lambda result: bool(result.bad)
)
def ingest_file(ctx: Context, *, stream: str, path: Path) -> IngestResult:
    """Append every row of a Parquet, CSV or NDJSON file, or of a folder of them, to a stream as history; resumable.

    A bad file of a folder holds up no other: all are reported at the end, with exit code 1.
    """
    return ingest(ctx, stream, path)


@operation("sources.list", permission=Permission.READ, http="GET /sources", cli="sources list")
def list_sources(ctx: Context) -> list[SourceStatus]:
    """List the batch sources: what they read into which stream, rows so far, last and next reading, last error."""
    return source_status(ctx)


@operation(
    "sources.read", permission=Permission.WRITE_EVENTS, changes=True, http="POST /sources/{source}/read", cli="sources read"
)
def read_source_now(ctx: Context, *, source: str) -> SourceReading:
    """Append what is new in a batch source now, whenever it is due next."""
    return read_source(ctx, source)


@operation("contracts.show", permission=Permission.READ, http="GET /streams/{stream}/contract", cli="contracts show")
def show_contract(ctx: Context, *, stream: str) -> ContractReport:
    """Show how the contract of a stream held: events refused and warned of by rule, freshness, volume, the newest batches."""
    return contract_results.report(ctx, stream)


@operation("quarantine.list", permission=Permission.READ, http="GET /streams/{stream}/quarantine", cli="quarantine list")
def list_quarantine(
    ctx: Context, *, stream: str, reason: str | None = None, field: str | None = None, rule: str | None = None,
    after: int | None = None, limit: int | None = None,
) -> list[QuarantineEntry]:  # fmt: skip
    """List the events of a stream that its contract refused, with the reason.

    `--reason` is part of the reason, `--rule` a rule of `headrace contracts show`. For pages give `--limit`, and as `--after`
    the last offset of the page before.
    """
    return quarantine.entries(ctx, stream, Chosen(None, reason, field, rule, after, limit))


@operation(
    "quarantine.replay",
    permission=Permission.WRITE_EVENTS,
    changes=True,
    http="POST /streams/{stream}/quarantine/replay",
    cli="quarantine replay",
)
def replay_quarantine(
    ctx: Context, *, stream: str, id: str | None = None, reason: str | None = None, rule: str | None = None
) -> dict[str, int]:
    """Check refused events under today's contract and append the good ones to the stream again."""
    return replaying.replay(ctx, stream, Chosen(id, reason, rule=rule))


@operation(
    "quarantine.fix",
    permission=Permission.WRITE_EVENTS,
    changes=True,
    http="POST /streams/{stream}/quarantine/{id}/fix",
    cli="quarantine fix",
)
def fix_quarantine(ctx: Context, *, stream: str, id: str, event: dict[str, Any], offset: int | None = None) -> dict[str, int]:
    """Append a mended event in place of a refused one; EVENT is the JSON object, on the command line a file with it."""
    return replaying.fix(ctx, stream, id, event, offset=offset)


@operation("datasets.list", permission=Permission.READ, http="GET /datasets", cli="datasets list")
def list_datasets(ctx: Context) -> list[DatasetVersion]:
    """List the pinned dataset versions."""
    return datasets.datasets(ctx)


@operation("datasets.show", permission=Permission.READ, http="GET /datasets/{ref}", cli="datasets show")
def show_dataset(ctx: Context, *, ref: str) -> DatasetVersion:
    """Show one dataset version, `name@version`."""
    return datasets.dataset(ctx, ref)


@operation("datasets.diff", permission=Permission.READ, http="GET /datasets/{a}/diff/{b}", cli="datasets diff")
def diff_datasets(ctx: Context, *, a: str, b: str) -> DatasetDiff:
    """Show what differs between two dataset versions: rows only in one and in both, schema, distribution of each column."""
    return comparing.diff(ctx, a, b)


@operation(
    "datasets.vacuum", permission=Permission.ADMINISTER, changes=True, http="POST /datasets/vacuum", cli="datasets vacuum"
)
def vacuum_datasets(ctx: Context, *, hours: Annotated[int, Meta(le=1_000_000)] = 24) -> list[VacuumedTable]:
    """Delete the lake's files that no pinned dataset version and no stream has any more, given up `--hours` ago or longer.

    Whoever still reads an older state of a table, or was killed while writing it, is given that long.
    """
    return vacuuming.vacuum(ctx, hours)
