"""`headrace init NAME --from FILE`: from a file of events to a system file that runs, and the next commands to type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.data.files import read_table
from headrace.data.fitting import sample_of
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import checked_name, snake_case
from headrace.kernel.times import duration, format_time
from headrace.system.drafting import camel_case, draft, model_name, report_class, singular
from headrace.system.inferring import Inferred, event_times, infer


@dataclass(frozen=True, slots=True)
class Roles:
    """What the user says of the columns; None is inferred."""

    id: str | None = None
    key: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was written and inferred. `reports` is the file of report events made from the label column, if there is one;
    `next` are the commands that follow."""

    file: str
    system: str
    rows: int
    stream: str
    id: str
    key: str
    time: str
    label: str | None
    reports: str | None
    left_out: dict[str, str]
    next: list[str]


def initialise(name: str, source: Path, folder: Path, roles: Roles) -> Initialised:
    """Write `NAME.py` into `folder`, beside it report events when the file has a label column.

    InvalidInput when the file cannot be read or a role not be inferred, and rather than write over a file.
    """
    checked_name("system", name)
    target = folder / f"{name}.py"
    if target.exists():
        raise InvalidInput(f"`{target}` exists already", hint="choose another name, or another folder with --out")
    frame = read_table(source)
    inferred = infer(frame, sample_of(source).refusal, id=roles.id, key=roles.key, time=roles.time)
    stream = singular(camel_case(source.name.partition(".")[0]))
    text = draft(name, inferred, stream=stream, source=source.name)
    folder.mkdir(parents=True, exist_ok=True)
    reports = _write_reports(folder / f"{name}_reports.ndjson", frame, inferred)
    target.write_text(text)
    return Initialised(
        str(target), name, inferred.rows, snake_case(stream), inferred.id, inferred.key, inferred.time, inferred.label,
        None if reports is None else str(reports), inferred.left_out,
        _next(target, source, snake_case(stream), reports, inferred),
    )  # fmt: skip


def _write_reports(path: Path, frame: pl.DataFrame, inferred: Inferred) -> Path | None:
    """One event for each row whose label is true, at the row's time: the file does not say when it became known."""
    if inferred.label is None:
        return None
    times = pl.from_epoch(event_times(frame[inferred.time]), time_unit="us")
    rows = frame.select(pl.col(inferred.id), times.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").alias(inferred.time))
    rows.filter(frame[inferred.label].cast(pl.Boolean)).write_ndjson(path)
    return path


def _next(target: Path, source: Path, stream: str, reports: Path | None, inferred: Inferred) -> list[str]:
    commands = [f"headrace check {target}", f"headrace run {target} &", f"headrace ingest {stream} {source}"]
    if reports is not None:
        commands.append(f"headrace ingest {snake_case(report_class(inferred))} {reports}")
    model = model_name(inferred)
    if model is not None:
        first, last = inferred.first, inferred.first + inferred.span - duration(inferred.horizon)
        commands.append(f"headrace train {model} --from {_day(first)} --to {_day(last)}")
    return commands


def _day(micros: int) -> str:
    return format_time(micros)[:10]
