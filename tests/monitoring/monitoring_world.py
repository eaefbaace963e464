"""A small declared system for the monitoring room's tests, and a hand that writes the prediction log and counters as
serving does."""

from __future__ import annotations

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
from headrace.kernel.times import DAY, format_time, parse_time
from headrace.registry.tables import VERSIONS
from headrace.serving.counters import Counters
from headrace.serving.loading import Counted, Histogram, Reference
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.types import PredictionRecord
from headrace.statistics.histograms import bin_counts, quantile_edges

START = parse_time("2026-01-01T00:00:00Z")


def system() -> hr.System:
    declared, Payment, Report = bank()

    @declared.features
    def ratio(amount):  # type: ignore[no-untyped-def]
        return {"half": amount / 2}

    @declared.model(features=["amount", ratio], label=hr.label(Report, on="tx_id", within="7d"))
    def fraud(rows: object, labels: object) -> object:
        raise NotImplementedError

    service = declared.service(fraud, request=Payment, name="scoring")
    declared.watch(service, retrain_when=hr.psi > 0.2)
    return declared


def opened(folder: Path) -> Context:
    return open_context(Settings(data=folder), "bank", system().specs(), clock=FixedEventClock(START))


def reference(seed: int = 1, rows: int = 20_000) -> Reference:
    """Of amounts from an exponential distribution with mean 50, `half` of them, scores uniform."""
    rng = np.random.default_rng(seed)
    amounts, scores = rng.exponential(50, rows), rng.random(rows)

    def histogram(values: np.ndarray) -> Histogram:
        edges = quantile_edges(values)
        return Histogram(edges.tolist(), bin_counts(values, edges).tolist())

    return Reference({"amount": histogram(amounts), "half": histogram(amounts / 2)}, histogram(scores))


def register(ctx: Context, number: int, metrics: dict[str, float], artifact: bytes = b"") -> None:
    """Enter a version row as the registry does."""
    digest = ctx.blobs.put(ctx.system, msgspec.json.encode(reference()))
    facts = {
        "features": ["amount", "half"], "definition_hashes": {}, "proof": None, "golden": "", "reference": digest,
        "signature": {}, "metrics": metrics,
    }  # fmt: skip
    with ctx.catalog.transaction() as connection:
        connection.execute(
            VERSIONS.insert().values(
                system=ctx.system, name="fraud", number=number, engine="onnx", content_hash="", facts=facts,
                artifact=ctx.blobs.put(ctx.system, artifact), created_at=0,
            )
        )  # fmt: skip


@dataclass
class Day:
    """One day of traffic; `scale` multiplies amounts, `null` is the share of amounts that are missing, `failing` of
    failures, `bias` shifts the chance of a fraud away from the score."""

    rows: int = 1000
    scale: float = 1.0
    null: float = 0.0
    failing: float = 0.0
    bias: float = 0.0
    version: int = 1


@dataclass
class Traffic:
    """Writes days of answers; the counters are `flush`ed only on request, so that an uncounted tail can be tested."""

    ctx: Context
    seed: int = 3
    day: int = 0
    frauds: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        names = self.ctx.namespace
        self.log = PredictionLog(self.ctx.events, names.predictions("scoring"))
        self.counters = Counters(
            self.ctx.events,
            names.counters("scoring"),
            names.predictions("scoring"),
            lambda _: Counted(("amount", "half"), reference()),
        )

    def serve(self, day: Day) -> None:
        begin = START + self.day * DAY
        self.day += 1
        for i in range(day.rows):
            at = begin + DAY * i // day.rows
            amount = float(self.rng.exponential(50) * day.scale)
            if self.rng.random() < day.null:
                amount = float("nan")
            score = float(self.rng.random())
            failed = self.rng.random() < day.failing
            number = self.log.end + 1
            record = PredictionRecord(
                1, f"bank-{number:032x}", str(number), "", at, at, "scoring", day.version, "champion", str(number % 300), True,
                None, {"tx_id": number, "at": at, "card": number % 300, "amount": amount}, [amount, amount / 2], {},
                None if failed else score, "it fails" if failed else None, 900, None, 1,
            )  # fmt: skip
            place = self.log.append([record])
            self.counters.add(place, [(record, np.array(record.features))])
            if self.rng.random() < min(score + day.bias, 1.0):
                self.frauds.append((number, at))

    def flush(self) -> None:
        pending = self.counters.take()
        if pending is not None:
            self.counters.append(pending)

    def report(self, until: int) -> None:
        """Report the frauds asked until 7 days before `until`, in order of time."""
        due = [(number, at) for number, at in self.frauds if at + 7 * DAY <= until]
        self.frauds = [f for f in self.frauds if f not in set(due)]
        rows = [msgspec.json.encode({"tx_id": number, "at": format_time(at + 7 * DAY)}) for number, at in due]
        self.ctx.clock.set(until)
        append_raw(self.ctx, "report", rows)
        StreamApplier(self.ctx, self.ctx.specs.get(StreamSpec, "report"), []).step()
