"""`hr.connect`: training sets, features as known at a time, refused events and predictions as frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import polars as pl

from headrace.app.table_sources import TableSource, source_of
from headrace.kernel.errors import UsageError
from headrace.kernel.settings import load_settings
from headrace.kernel.times import format_time, to_micros

if TYPE_CHECKING:
    import pandas as pd

F = TypeVar("F")
Time = str | date
Rows = pl.DataFrame | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


class Client(Generic[F]):
    """What `connect` gives; `F` is the frame of the library that was asked for. Times are RFC 3339 texts, datetimes, of which
    naive ones are UTC, or dates, which are their first moment. Errors are those of `headrace.kernel.errors`, over HTTP those
    that the server reported."""

    def __init__(self, source: TableSource, made: Callable[[pl.DataFrame], F]) -> None:
        self._source = source
        self._made = made

    def training_set(self, model: str, *, start: Time, end: Time, known_at: Time | None = None) -> F:
        """The trainable rows with start <= asking time < end: keys, time, `_own` (the offset of the asking event, -1 for none),
        the features in model order, `label`. `known_at`, by default now: until when labels had to be known."""
        known = None if known_at is None else _text(known_at)
        return self._made(self._source.training_set(model, _text(start), _text(end), known))

    def features_at(self, name: str, at: Time | None = None, *, rows: Rows | None = None) -> F:
        """The features of a view, a function or a model as they were known at `at`, by default now.

        `rows` hold the keys, and whatever else of a request the features read; rows with a time column (that of the stream
        whose events ask) are each asked at their own time. Columns that no feature needs come back as they are. A row is
        a moment and no event: `own_event` adds nothing. Without rows, of a view: every key that was known at `at`.
        """
        frame = rows if rows is None or isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
        return self._made(self._source.features_at(name, None if at is None else _text(at), frame))

    def quarantine(self, stream: str, *, reason: str | None = None, rule: str | None = None) -> F:
        """The refused events that were not replayed: id, offset, field, reason, value, raw. `reason` is part of the reason."""
        return self._made(self._source.quarantine(stream, reason, rule))

    def predictions(self, service: str) -> F:
        """The prediction log: prediction_id, at, version, role, read_position, entity_key, score, then the features."""
        return self._made(self._source.predictions(service))


@overload
def connect(
    url: str | Path | None = None, key: str | None = None, *, system: str | None = None, frames: Literal["polars"] = "polars"
) -> Client[pl.DataFrame]: ...
@overload
def connect(
    url: str | Path | None = None, key: str | None = None, *, system: str | None = None, frames: Literal["pandas"]
) -> Client[pd.DataFrame]: ...
def connect(
    url: str | Path | None = None, key: str | None = None, *, system: str | None = None, frames: str = "polars"
) -> Client[Any]:
    """A client of the running headrace at `url` (`http://...`), or of a data folder or system file on this machine, running
    or not. By default HEADRACE_URL with HEADRACE_API_KEY, else the data folder of the settings.

    `key` may be `env:NAME` or `file:PATH`. `system` chooses when a data folder holds several. `frames="pandas"` needs pandas.
    """
    made = {"polars": _same, "pandas": _to_pandas}
    if frames not in made:
        raise UsageError(f"frames=`{frames}`; allowed: polars, pandas", hint="choose one of these")
    return Client(source_of(load_settings(), url, key, system), made[frames])


def _text(moment: Time) -> str:
    if isinstance(moment, str):
        return moment
    if not isinstance(moment, date):
        raise UsageError(f"`{moment!r}` is no time", hint="give a text like 2026-01-31T12:00:00Z, a datetime or a date")
    return format_time(to_micros(moment if isinstance(moment, datetime) else datetime.combine(moment, time(), UTC)))


def _same(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def _to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """Column by column through NumPy, which needs no pyarrow: a null is NaN, NaT or None, as pandas has it."""
    import pandas as pd

    columns = {}
    for column in frame:
        values = pd.Series(column.to_list() if column.dtype.is_nested() else column.to_numpy())
        columns[column.name] = values.dt.tz_localize("UTC") if isinstance(column.dtype, pl.Datetime) else values
    return pd.DataFrame(columns)
