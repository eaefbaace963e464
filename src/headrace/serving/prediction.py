"""The prediction path of one service: features, router, scores, log; everything of one loop tick goes as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from headrace.features.online import FeaturesFailed
from headrace.features.types import Ask, FeatureRow
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict, EngineUnreachable, HeadraceError, NotReady
from headrace.kernel.ids import key_text
from headrace.kernel.log import LOG
from headrace.serving.journal import Entry, Journal
from headrace.serving.loading import LoadedVersion
from headrace.serving.prediction_log import FORMAT
from headrace.serving.requests import Asked
from headrace.serving.router import is_challengers
from headrace.serving.shadow import Shadowed, Shadows
from headrace.serving.types import PredictionRecord, RouteTable


class PredictionFailed(HeadraceError):
    """The champion has no answer; the failure is in the prediction log."""


class Features(Protocol):
    """`features.online.FeatureReader`."""

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow | HeadraceError]: ...


@dataclass(frozen=True, slots=True)
class Live:
    """What serves: a route table and its loaded versions, replaced as a whole by one assignment. `challenger` is None
    when the table has none or it could not be loaded."""

    table: RouteTable
    champion: LoadedVersion
    challenger: LoadedVersion | None = None
    shadows: tuple[LoadedVersion, ...] = ()

    @property
    def versions(self) -> dict[int, LoadedVersion]:
        loaded = (self.champion, *((self.challenger,) if self.challenger else ()), *self.shadows)
        return {version.number: version for version in loaded}


@dataclass(slots=True)
class _Item:
    """A request on its way through one tick."""

    asked: Asked
    live: Live
    started: float
    answer: asyncio.Future[PredictionRecord]
    row: np.ndarray | None = None
    positions: dict[str, dict[str, int]] = field(default_factory=dict)
    error: str | None = None
    refused: bool = False
    machine_at: int = 0
    entries: list[Entry] = field(default_factory=list)


class Predictor:
    """Answers the requests of one service with what `live` holds at the moment of asking."""

    def __init__(self, service: str, features: Features, journal: Journal) -> None:
        self.service = service
        self.live: Live | None = None
        self.shadows = Shadows(journal)
        self._features = features
        self._journal = journal
        self._items: list[_Item] = []
        self._waiting: dict[str, _Item] = {}

    def ask(self, asked: Asked, started: float, row: np.ndarray | None = None) -> asyncio.Future[PredictionRecord]:
        """The future record of the answer, logged before it is set. `row` are given features, read none.

        Raises Conflict for the same key with other content, NotReady without a champion. The future raises InvalidInput
        when the feature state no longer reaches back to the asking time, PredictionFailed.
        """
        live = self.live
        if live is None:
            raise NotReady(
                f"service `{self.service}` has no champion yet",
                hint=f"`headrace rollout start {self.service} VERSION` releases a registered version",
            )
        loop = asyncio.get_running_loop()
        if asked.key:
            earlier = self._waiting.get(asked.id)
            if earlier is not None:
                _same_content(asked, earlier.asked.digest)
                return earlier.answer
            logged = self._journal.log.answered(asked.id)
            if logged is not None:
                _same_content(asked, logged.request_hash)
                known: asyncio.Future[PredictionRecord] = loop.create_future()
                known.set_result(logged)
                return known
        item = _Item(asked, live, started, loop.create_future(), row)
        if not self._items:
            loop.call_soon(self._flush)
        self._items.append(item)
        if asked.key:
            self._waiting[asked.id] = item
        return item.answer

    def _read_features(self, items: list[_Item]) -> None:
        """Read them for the whole tick. What a client must mend is told at once; a failure of the system file's functions
        is logged and answered like that of a model."""
        reading = [item for item in items if item.row is None]
        found: Sequence[FeatureRow | HeadraceError] = ()
        try:
            if reading:
                found = self._features.read_many([Ask(item.asked.row, item.asked.at, item.asked.own_id) for item in reading])
        except HeadraceError as error:
            found = [error] * len(reading)
        for item, row in zip(reading, found, strict=True):
            if isinstance(row, FeatureRow):
                item.row, item.positions = row.values, row.positions
            elif isinstance(row, FeaturesFailed):
                item.error = row.message
            else:
                item.refused = True
                _fail(item, row)
        machine_at = MACHINE.now()
        for item in items:
            item.machine_at = machine_at

    def _flush(self) -> None:
        """Read, score, log and answer everything that was asked in this tick."""
        items, self._items, self._waiting = self._items, [], {}
        try:
            self._read_features(items)
            items = [item for item in items if not item.refused]
            self._score(items)
            self._journal.write([entry for item in items for entry in item.entries])
        except Exception as error:  # noqa: BLE001 - nothing was acknowledged: every waiting client is told
            LOG.error("predictions were not logged", service=self.service, error=repr(error), requests=len(items))
            for item in items:
                _fail(item, EngineUnreachable("the prediction could not be logged", hint="try again"))
            return
        for item in items:
            record, row = item.entries[-1]
            if item.answer.done():  # the client's task was cancelled
                continue
            if record.error is None:
                item.answer.set_result(record)
            else:
                item.answer.set_exception(_failed(record))
            for version in item.live.shadows:
                if row is not None and version.number != record.version:
                    self.shadows.offer(Shadowed(version, record, row))

    def _score(self, items: list[_Item]) -> None:
        canary: dict[LoadedVersion, list[_Item]] = {}
        champion: dict[LoadedVersion, list[_Item]] = {}
        for item in items:
            live = item.live
            if item.row is None:
                item.entries.append((_record(item, live.champion, "champion", None, item.error), None))
            elif live.challenger is not None and is_challengers(live.table.salt, item.asked.entity, live.table.weight):
                canary.setdefault(live.challenger, []).append(item)
            else:
                champion.setdefault(live.champion, []).append(item)
        for version, group in canary.items():
            for item, error in _answer(version, "canary", group):
                if error is not None:
                    champion.setdefault(item.live.champion, []).append(item)
        for version, group in champion.items():
            _answer(version, "champion", group)


def _answer(version: LoadedVersion, role: str, group: list[_Item]) -> list[tuple[_Item, str | None]]:
    """Add the version's record to each item; returns the items with their errors."""
    scored = version.score([item.row for item in group if item.row is not None])
    for item, (score, error) in zip(group, scored, strict=True):
        item.entries.append((_record(item, version, role, score, error), item.row))
    return [(item, error) for item, (_, error) in zip(group, scored, strict=True)]


def _record(item: _Item, version: LoadedVersion, role: str, score: float | None, error: str | None) -> PredictionRecord:
    asked, table = item.asked, item.live.table
    return PredictionRecord(
        FORMAT, asked.id, asked.key, asked.digest, asked.at, item.machine_at, table.service, version.number, role,
        asked.entity, asked.sticky, None if asked.own_id is None else key_text(asked.own_id), asked.row,
        [] if item.row is None else item.row.tolist(), item.positions, score, error,
        round((MACHINE.monotonic() - item.started) * 1e6), table.rollout, table.generation,
    )  # fmt: skip


def _fail(item: _Item, error: HeadraceError) -> None:
    if not item.answer.done():  # the client's task was cancelled
        item.answer.set_exception(error)


def _failed(record: PredictionRecord) -> PredictionFailed:
    return PredictionFailed(
        f"version {record.version} of service `{record.service}` has no answer: {record.error}",
        hint=f"it is logged as prediction {record.id}",
    )


def _same_content(asked: Asked, digest: str) -> None:
    if asked.digest != digest:
        raise Conflict(
            f"the key `{asked.key}` was used for a request with other content",
            hint="send the same request again, or use a new key",
        )
