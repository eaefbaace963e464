"""Where a client's tables come from: a running headrace over HTTP, or the data folder in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import msgspec
import polars as pl

from headrace.app.client import JSON, exchange
from headrace.app.run import absolute
from headrace.app.tables_door import PARQUET, to_parquet
from headrace.app.world import check_installed, installed, known_systems, world
from headrace.data.quarantine import Chosen, entries
from headrace.data.types import QuarantineEntry
from headrace.engines.context import Context
from headrace.kernel.identity import LOCAL
from headrace.kernel.ids import new_id
from headrace.kernel.settings import Settings
from headrace.serving.reading import predictions_frame
from headrace.system.feature_tables import training_table, values_of_keys, values_of_rows
from headrace.system.load import load_system

_REFUSED = {
    "id": pl.String, "offset": pl.Int64, "field": pl.String, "reason": pl.String, "value": pl.String, "raw": pl.String,
}  # fmt: skip


class TableSource(Protocol):
    """Times are RFC 3339; None is now."""

    def training_set(self, model: str, start: str, end: str, known_at: str | None) -> pl.DataFrame: ...
    def features_at(self, name: str, at: str | None, rows: pl.DataFrame | None) -> pl.DataFrame: ...
    def quarantine(self, stream: str, reason: str | None, rule: str | None) -> pl.DataFrame: ...
    def predictions(self, service: str) -> pl.DataFrame: ...


def _refused(found: list[QuarantineEntry]) -> pl.DataFrame:
    return pl.DataFrame([msgspec.to_builtins(entry) for entry in found], schema=_REFUSED)


@dataclass(frozen=True, slots=True)
class Remote:
    """A running headrace. Its errors come with the class, message and hint that the server gave."""

    url: str
    key: str

    def training_set(self, model: str, start: str, end: str, known_at: str | None) -> pl.DataFrame:
        query = {"start": start, "end": end, "known_at": known_at}
        return pl.read_parquet(self._ask("GET", f"/models/{quote(model, safe='')}/training-set", query))

    def features_at(self, name: str, at: str | None, rows: pl.DataFrame | None) -> pl.DataFrame:
        body = b"" if rows is None else to_parquet(rows)
        return pl.read_parquet(self._ask("POST", f"/features/{quote(name, safe='')}/at", {"at": at}, body, PARQUET))

    def quarantine(self, stream: str, reason: str | None, rule: str | None) -> pl.DataFrame:
        answer = self._ask("GET", f"/streams/{quote(stream, safe='')}/quarantine", {"reason": reason, "rule": rule})
        return _refused(msgspec.json.decode(answer, type=list[QuarantineEntry]))

    def predictions(self, service: str) -> pl.DataFrame:
        return pl.read_parquet(self._ask("GET", f"/services/{quote(service, safe='')}/predictions", {}))

    def _ask(self, method: str, path: str, query: dict[str, Any], body: bytes = b"", media_type: str = JSON) -> bytes:
        given = urlencode({name: value for name, value in query.items() if value is not None})
        target = f"/api/v1{path}?{given}" if given else f"/api/v1{path}"
        return exchange(self.url, method, target, body, key=self.key, media_type=media_type)


@dataclass(frozen=True, slots=True)
class Local:
    """The data folder of `settings`, with or without a running headrace; it is open only while it is asked. `file` is the
    system file, else that which last ran; `system` chooses among several."""

    settings: Settings
    system: str | None
    file: str | None

    def training_set(self, model: str, start: str, end: str, known_at: str | None) -> pl.DataFrame:
        with self._open() as ctx:
            return training_table(ctx, model, start=start, end=end, known_at=known_at)

    def features_at(self, name: str, at: str | None, rows: pl.DataFrame | None) -> pl.DataFrame:
        with self._open() as ctx:
            return values_of_keys(ctx, name, at) if rows is None else values_of_rows(ctx, name, rows, at)

    def quarantine(self, stream: str, reason: str | None, rule: str | None) -> pl.DataFrame:
        with self._open() as ctx:
            return _refused(entries(ctx, stream, Chosen(reason=reason, rule=rule)))

    def predictions(self, service: str) -> pl.DataFrame:
        with self._open() as ctx:
            return predictions_frame(ctx, service)

    @contextmanager
    def _open(self) -> Iterator[Context]:
        ctx = installed(self.settings, self.system) if self.file is None else self._of_file(self.file)
        try:
            yield ctx.acting(LOCAL, new_id())
        finally:
            ctx.close()

    def _of_file(self, file: str) -> Context:
        check_installed(self.settings)
        declared = load_system(file)
        clock = next((known.clock for known in known_systems(self.settings) if known.name == declared.name), "real")
        return world(self.settings, declared.name, declared.specs(), clock=clock, file=absolute(file))


def source_of(settings: Settings, place: str | Path | None, key: str | None, system: str | None) -> TableSource:
    """`place`: an http URL, a data folder or a system file; by default the URL of the settings, else their data folder."""
    if place is None and settings.url:
        place = settings.url
    if isinstance(place, str) and "://" in place:
        return Remote(place, key or settings.api_key)
    if place is None:
        return Local(settings, system, None)
    if Path(str(place).partition(":")[0]).suffix == ".py":
        return Local(settings, system, str(place))
    return Local(replace(settings, data=Path(place)), system, None)
