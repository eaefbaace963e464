"""A small declared system for the release room's tests: payments scored by cards, with late fraud reports; and a hand
that writes the prediction log as serving does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from bank_system import bank

import headrace as hr
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.times import DAY, HOUR, MINUTE, format_time, parse_time
from headrace.registry import versions
from headrace.registry.tables import VERSIONS
from headrace.release import rollouts
from headrace.release.stepping import tick
from headrace.release.types import Rollout
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.router import is_challengers
from headrace.serving.routes import Acknowledgement, acknowledge, route
from headrace.serving.types import PredictionRecord, RouteTable, ServiceSpec

START = parse_time("2026-01-01T00:00:00Z")
CARDS = 600


def system() -> hr.System:
    declared, Payment, Report = bank()

    @declared.model(features=["amount"], label=hr.label(Report, on="tx_id", within="7d"))
    def fraud(rows: object, labels: object) -> object:
        raise NotImplementedError

    plan = hr.shadow("1h") >> hr.canary(5, 25, 100) >> hr.probation("8d")
    service = declared.service(fraud, request=Payment, name="scoring", p99="20ms", release=plan)
    declared.watch(service, retrain_when=hr.psi > 0.2)
    return declared


def service() -> ServiceSpec:
    return system().specs().get(ServiceSpec, "scoring")


def opened(folder: Path) -> Context:
    """The world with the approved versions 1, 2 and 3, or opened again."""
    again = (folder / "catalog.sqlite").exists()
    ctx = open_context(Settings(data=folder), "bank", system().specs(), clock=FixedEventClock(START))
    for number in () if again else (1, 2, 3):
        register(ctx, number)
        versions.approve(ctx, "fraud", number, reason="a test")
    return ctx


def register(ctx: Context, number: int) -> None:
    """Enter a version row as the registry does, without an artifact."""
    facts = {
        "features": ["amount"], "definition_hashes": {}, "proof": None, "golden": "", "reference": "", "signature": {},
        "metrics": {},
    }  # fmt: skip
    with ctx.catalog.transaction() as connection:
        connection.execute(
            VERSIONS.insert().values(
                system=ctx.system, name="fraud", number=number, engine="onnx", artifact="", content_hash="", facts=facts,
                created_at=0,
            )
        )  # fmt: skip


Score = Callable[[int, float, np.random.Generator], float | None]
"""(version, amount, rng) -> score, or None for a failure."""


def sound(version: int, amount: float, rng: np.random.Generator) -> float | None:
    """Every version scores the true chance of fraud."""
    return amount


@dataclass
class Serving:
    """Answers requests as the serving process does, by the route table of the moment, and logs them."""

    ctx: Context
    score: Score = sound
    seed: int = 1
    failed_clients: int = 0
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.log = PredictionLog(self.ctx.events, self.ctx.namespace.predictions("scoring"))

    def acknowledge(self, failed: dict[int, str] | None = None) -> None:
        with self.ctx.catalog.transaction() as connection:
            table = route(connection, self.ctx.system, "scoring")
            assert table is not None
            acknowledge(connection, self.ctx.system, "scoring", "worker-1", Acknowledgement(table.generation, (), failed or {}))

    def requests(self, count: int, *, over: int = HOUR) -> None:
        """Answer `count` requests spread over `over` microseconds from now on; the clock ends there."""
        begin = self.ctx.clock.now()
        with self.ctx.catalog.reading() as connection:
            table = route(connection, self.ctx.system, "scoring")
        assert table is not None and table.champion is not None
        for i in range(count):
            self._request(table, begin + over * i // count)
        self.ctx.clock.set(begin + over)

    def _request(self, table: RouteTable, at: int) -> None:
        number, card = next(self.numbers), int(self.rng.integers(CARDS))
        amount = float(self.rng.beta(1, 9))
        assert table.champion is not None
        answered = False
        if table.challenger is not None and is_challengers(table.salt, str(card), table.weight):
            answered = self._score(table, table.challenger, "canary", (number, card, amount, at))
        if not answered:
            answered = self._score(table, table.champion, "champion", (number, card, amount, at))
        self.failed_clients += not answered
        for version in table.shadows:
            self._score(table, version, "shadow", (number, card, amount, at))

    def _score(self, table: RouteTable, version: int, role: str, request: tuple[int, int, float, int]) -> bool:
        number, card, amount, at = request
        score = self.score(version, amount, self.rng)
        record = PredictionRecord(
            1, f"bank-{number:032x}", str(number), "", at, at, "scoring", version, role, str(card), True, None,
            {"tx_id": number, "at": at, "card": card, "amount": amount}, [amount], {}, score,
            None if score is not None else "it fails", int(self.rng.integers(500, 2000)), table.rollout, table.generation,
        )  # fmt: skip
        self.log.append([record])
        return score is not None

    def report(self, now: int) -> None:
        """Report frauds: each request asked at least 7 days before `now` is one with the chance of its amount."""
        chance = np.random.default_rng(5)
        known = {}
        for value in self.ctx.events.read(self.log.topic, 0, 0, max_records=1_000_000).values:
            record = msgspec.msgpack.decode(value, type=PredictionRecord)
            known[record.request["tx_id"]] = (record.at, record.request["amount"])
        rows = [
            msgspec.json.encode({"tx_id": number, "at": format_time(at + 7 * DAY - MINUTE)})
            for number, (at, amount) in sorted(known.items())
            if chance.random() < amount and at + 7 * DAY <= now
        ]
        append_raw(self.ctx, "report", rows)
        StreamApplier(self.ctx, self.ctx.specs.get(StreamSpec, "report"), []).step()


def with_champion(ctx: Context) -> Serving:
    """Version 1 serves and has answered some requests."""
    serving = Serving(ctx)
    rollouts.start(ctx, "scoring", 1)
    serving.requests(300)
    return serving


def ticked(ctx: Context) -> Rollout:
    found = tick(ctx, "scoring")
    assert found is not None
    return found
