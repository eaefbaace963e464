"""The prediction path of one service: features, router, scores, log; everything of one loop tick goes as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.features.online import FeaturesFailed
from headrace.features.types import Ask, FeatureRow
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict, EngineUnreachable, HeadraceError, InvalidInput, NotReady
from headrace.kernel.ids import key_text
from headrace.kernel.log import LOG
from headrace.serving.journal import Journal
from headrace.serving.loading import Features, LoadedVersion, Scored
from headrace.serving.prediction_log import FORMAT
from headrace.serving.requests import Asked
from headrace.serving.router import is_challengers
from headrace.serving.shadow import Shadowed, Shadows
from headrace.serving.types import Entry, PredictionRecord, RouteTable

NO_FEATURES = FeatureRow(np.empty(0), {})
NOT_GIVEN = InvalidInput("the features were given in the order of the champion", hint="ask the service by its own path")
"""Why a version of other features than the champion's cannot answer a row of `/predict`."""


class PredictionFailed(HeadraceError):
    """The champion has no answer; the failure is in the prediction log."""


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

    @property
    def readers(self) -> Mapping[str, Features]:
        """By what they mean, the features that the versions read: mostly all read the same. What only warms reads none."""
        asked = (self.champion, *((self.challenger,) if self.challenger and self.table.weight > 0 else ()), *self.shadows)
        return {version.inputs.meaning: version.inputs.reader for version in asked}


@dataclass(slots=True)
class _Item:
    """A request on its way through one tick."""

    asked: Asked
    live: Live
    started: float
    answer: asyncio.Future[PredictionRecord]
    given: np.ndarray | None = None
    rows: dict[str, FeatureRow | HeadraceError] = field(default_factory=dict)
    machine_at: int = 0
    entries: list[Entry] = field(default_factory=list)

    def row(self, version: LoadedVersion) -> FeatureRow | HeadraceError:
        """The features that the version reads, or why there are none."""
        return self.rows[version.inputs.meaning]


class Predictor:
    """Answers the requests of one service with what `live` holds at the moment of asking."""

    def __init__(self, service: str, journal: Journal) -> None:
        self.service = service
        self.live: Live | None = None
        self.shadows = Shadows(journal)
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
        """Read them for the whole tick, once for all versions that read the same."""
        by_live: dict[int, list[_Item]] = {}
        for item in items:
            if item.given is None:
                by_live.setdefault(id(item.live), []).append(item)
            else:
                item.rows = dict.fromkeys(item.live.readers, NOT_GIVEN)
                item.rows[item.live.champion.inputs.meaning] = FeatureRow(item.given, {})
        for reading in by_live.values():
            asks = [Ask(item.asked.row, item.asked.at, item.asked.own_id) for item in reading]
            for meaning, reader in reading[0].live.readers.items():
                found: Sequence[FeatureRow | HeadraceError]
                try:
                    found = reader.read_many(asks)
                except HeadraceError as error:
                    found = [error] * len(reading)
                for item, row in zip(reading, found, strict=True):
                    item.rows[meaning] = row
        machine_at = MACHINE.now()
        for item in items:
            item.machine_at = machine_at

    def _flush(self) -> None:
        """Read, score, log and answer everything that was asked in this tick."""
        items, self._items, self._waiting = self._items, [], {}
        try:
            self._read_features(items)
            items = [item for item in items if not _refused(item)]
            self._score(items)
            self._journal.write([entry for item in items for entry in item.entries])
        except Exception as error:  # noqa: BLE001 - nothing was acknowledged: every waiting client is told
            LOG.error("predictions were not logged", service=self.service, error=repr(error), requests=len(items))
            for item in items:
                _fail(item, EngineUnreachable("the prediction could not be logged", hint="try again"))
            return
        for item in items:
            record, _ = item.entries[-1]
            if item.answer.done():  # the client's task was cancelled
                continue
            if record.error is None:
                item.answer.set_result(record)
            else:
                item.answer.set_exception(_failed(record))
            for version in item.live.shadows:
                row = item.row(version)
                if isinstance(row, FeatureRow) and version.number != record.version:
                    self.shadows.offer(Shadowed(version, record, row))

    def _score(self, items: list[_Item]) -> None:
        canary: dict[LoadedVersion, list[_Item]] = {}
        champion: dict[LoadedVersion, list[_Item]] = {}
        for item in items:
            live = item.live
            if live.challenger is not None and live.table.weight > 0 and _is_canary(item, live.challenger):
                canary.setdefault(live.challenger, []).append(item)
            else:
                champion.setdefault(live.champion, []).append(item)
        for version, group in canary.items():
            for item, error in _answer(version, "canary", group):
                if error is not None:
                    champion.setdefault(item.live.champion, []).append(item)
        for version, group in champion.items():
            _answer(version, "champion", group)


def _is_canary(item: _Item, challenger: LoadedVersion) -> bool:
    """Whether the challenger is to answer. What keeps both from answering is no fault of the challenger."""
    live, row = item.live, item.row(challenger)
    alike = challenger.inputs.meaning == live.champion.inputs.meaning
    if row is NOT_GIVEN or (alike and not isinstance(row, FeatureRow)):
        return False
    return is_challengers(live.table.salt, item.asked.entity, live.table.weight)


def _refused(item: _Item) -> bool:
    """Whether the client is told what it must mend: what the champion reads cannot be read of this request. A failure of the
    system file's functions is logged and answered like that of a model."""
    row = item.row(item.live.champion)
    if isinstance(row, FeatureRow | FeaturesFailed):
        return False
    _fail(item, row)
    return True


def _answer(version: LoadedVersion, role: str, group: list[_Item]) -> list[tuple[_Item, str | None]]:
    """Add the version's record to each item; returns the items with their errors."""
    rows = [item.row(version) for item in group]
    scored = iter(version.score([row.values for row in rows if isinstance(row, FeatureRow)]))
    errors: list[str | None] = []
    for item, row in zip(group, rows, strict=True):
        if isinstance(row, FeatureRow):
            score, error = next(scored)
            item.entries.append((_record(item, version, role, row, (score, error)), row.values))
        else:
            error = row.message
            item.entries.append((_record(item, version, role, NO_FEATURES, (None, error)), None))
        errors.append(error)
    return list(zip(group, errors, strict=True))


def _record(item: _Item, version: LoadedVersion, role: str, row: FeatureRow, scored: Scored) -> PredictionRecord:
    asked, table, (score, error) = item.asked, item.live.table, scored
    return PredictionRecord(
        FORMAT, asked.id, asked.key, asked.digest, asked.at, item.machine_at, table.service, version.number, role,
        asked.entity, asked.sticky, None if asked.own_id is None else key_text(asked.own_id), asked.row,
        row.values.tolist(), row.positions, score, error,
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
