"""A declared system on the real engines: what was read live is what a backfill and a recomputation give, to the bit."""

from __future__ import annotations

import random
from datetime import datetime

import msgspec
import numpy as np
import pytest

import headrace as hr
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.types import StreamSpec
from headrace.engines.open import open_context
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, matrix
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import EventSpine, stored_views
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.times import format_time
from headrace.training.types import ModelSpec

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def declared():
    system = hr.System("shop")

    @system.stream(id="id", key="customer", time="at")
    class Payment:
        id: int
        at: datetime
        customer: int
        terminal: int
        amount: float | None
        country: str | None

    @system.stream(id="id", key="id", time="at")
    class Report:
        id: int
        at: datetime

    @system.stream(id="id", key="customer", time="at", created="seen")
    class Profile:
        id: int
        at: datetime
        seen: datetime
        customer: int
        limit: float | None
        tier: str

    reported = system.join(Payment, Report, on="id")
    customer = system.windows(
        Payment, by="customer", over=["10s", "60s"], own_event=True,
        n=hr.count(), total=hr.sum("amount"), spread=hr.std("amount"), country=hr.last("country"),
    )  # fmt: skip
    pair = system.windows(reported, by=("customer", "terminal"), over=["60s"], name="pair", n=hr.count(), risk=hr.share(Report))
    everyone = system.windows(
        Payment, by=(), over=["30s"], resolution="10s", mean=hr.mean("amount"), customers=hr.distinct("customer")
    )
    profile = system.attributes(Profile, by="customer", columns=["limit", "tier"], ttl="40s", name="profile")

    @system.features
    def alarm(ratio, abroad):
        return {"alarm": (ratio > 1) & (abroad > 0)}

    @system.features
    def shape(customer_total_10s, profile_limit, all_mean_30s):
        return {"ratio": customer_total_10s / profile_limit, "size": customer_total_10s - all_mean_30s}

    @system.features
    def words(country, customer_country_60s, profile_tier):
        gold = [tier == "gold" for tier in profile_tier]
        return {"gold": gold, "abroad": [now != then for now, then in zip(country, customer_country_60s, strict=True)]}

    @system.model(
        features=["amount", alarm, customer, pair, everyone, shape, words, profile],
        label=hr.label(Report, on="id", within="5s"), spine=Payment,
    )  # fmt: skip
    def fraud(rows, labels):
        return None

    return system


def rows(seed, count=40):
    """Payments in order of arrival, some late and some of one second; reports and profiles."""
    draw = random.Random(seed)
    payments, reports, profiles = [], [], []
    for number in range(count):
        at = START + (number // 2 * 3 - draw.choice((0, 0, 0, 7, 30))) * SECOND
        payments.append({
            "id": number, "at": at, "customer": draw.randint(1, 3), "terminal": draw.choice((1, 23)),
            "amount": draw.choice((0.1, 0.2, 1e16, -0.0, 7.3, None)), "country": draw.choice(("ch", "fr", None)),
        })  # fmt: skip
        if draw.random() < 0.4:
            reports.append({"id": number, "at": at + draw.randint(0, 20) * SECOND})
        if draw.random() < 0.5:
            seen = at + draw.choice((-5, 0, 10)) * SECOND
            profiles.append({"id": number, "at": at, "seen": seen, "customer": draw.randint(1, 3),
                             "limit": draw.choice((1.0, 0.3, None)), "tier": draw.choice(("gold", "tin"))})  # fmt: skip
    return payments, sorted(reports, key=lambda r: r["at"]), sorted(profiles, key=lambda p: p["seen"])


def put(ctx, stream, given):
    written = [{k: format_time(v) if k in ("at", "seen") else v for k, v in row.items()} for row in given]
    append_raw(ctx, stream, [msgspec.json.encode(row) for row in written], history=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_live_values_equal_a_backfill_and_a_recomputation(tmp_path, seed):
    system = declared()
    specs = system.specs()
    (model,) = specs.all(ModelSpec)
    ctx = open_context(Settings(data=tmp_path), "shop", specs, clock=FixedEventClock(START + 3600 * SECOND))
    views = OnlineViews(ctx, stored_views(specs))
    appliers = {spec.name: StreamApplier(ctx, spec, [views.sink]) for spec in specs.all(StreamSpec)}
    reader = FeatureReader(ctx.online, ctx.namespace, model.features, specs, asking="payment")
    payments, reports, profiles = rows(seed)
    reads = []
    newest = 0
    for number, payment in enumerate(payments):
        newest = max(newest, payment["at"])
        for stream, waiting, when in (("report", reports, "at"), ("profile", profiles, "seen")):
            ready = [row for row in waiting if row[when] <= newest]
            del waiting[: len(ready)]
            put(ctx, stream, ready)
            appliers[stream].step()
        if number % 4 == 3:  # this one arrives by the stream before it is asked
            put(ctx, "payment", [payment])
            appliers["payment"].step()
        row = reader.read(payment, payment["at"], payment["id"])
        reads.append((LoggedRead(payment, payment["at"], payment["id"], row.positions), row.values))
        if number % 4 != 3:
            put(ctx, "payment", [payment])
            appliers["payment"].step()
    live = np.array([values for _, values in reads])
    assert np.isnan(live).any(axis=0).sum() > 5 and (~np.isnan(live)).any(axis=0).all()

    frames = {name: history(ctx, name) for name in ("payment", "report", "profile")}
    filled = backfill(model.features, asking_points(EventSpine("payment"), frames, specs), frames, specs, spine="payment")
    compared = zip(model.features.columns, matrix(model.features, filled).T, live.T, strict=True)
    assert [name for name, mine, theirs in compared if (mine + 0.0).tobytes() != (theirs + 0.0).tobytes()] == []
    frames = {name: log_history(ctx, name) for name in frames}
    again = recompute(model.features, [read for read, _ in reads], frames, specs, asking="payment")
    assert again.tobytes() == live.tobytes()
    ctx.close()
