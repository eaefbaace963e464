"""Views by something else than a stream's key, of several partitions: online, recomputed and backfilled as the oracle says."""

from __future__ import annotations

import random
from datetime import datetime

import msgspec
import numpy as np
import oracle
import polars as pl
import pytest
from scenario import bits

import headrace as hr
from headrace.app.applying import Applying
from headrace.data.appending import append_raw
from headrace.data.history import log_history
from headrace.engines.open import open_context
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import AttributeView, FeatureSet, stored_views
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.partitions import partition_of
from headrace.kernel.settings import Settings
from headrace.kernel.times import format_time

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SHOPS = ("a", "b", "c", None)

system = hr.System("market")


@system.stream(id="id", key="customer", time="at", partitions=3, lateness="1d")
class Sale:
    id: int
    at: datetime
    customer: int
    shop: str | None
    amount: float | None


@system.stream(id="n", key="n", time="at", partitions=2)
class Refund:
    n: int
    id: int | None
    at: datetime


returned = system.join(Sale, Refund, on="id")
OVER = ["10s", "60s"]
system.windows(Sale, by="customer", over=OVER, name="own", own_event=True, n=hr.count(), total=hr.sum("amount"))
system.windows(Sale, by="shop", over=OVER, own_event=True, n=hr.count(), total=hr.sum("amount"), last=hr.last("amount"))
system.windows(Sale, by=("shop", "id"), over=OVER, name="few", delay="2s", n=hr.count())
system.windows(Sale, by=(), over=OVER, resolution="5s", n=hr.count(), first=hr.first("amount"), who=hr.distinct("customer"))
system.windows(returned, by="shop", over=OVER, name="risk", own_event=True, n=hr.count(), share=hr.share(Refund))
system.windows(returned, by="customer", over=OVER, name="safe", share=hr.share(Refund), total=hr.sum("amount"))
system.windows(returned, by=(), over=["30s"], name="back", delay="1s", share=hr.share(Refund))
system.attributes(Sale, by="shop", columns=["amount", "customer"], ttl="40s", name="latest")
SPECS = system.specs()
VIEWS = stored_views(SPECS)
FEATURES = FeatureSet(tuple(VIEWS))


def opened(folder, name="market"):
    return open_context(Settings(data=folder), name, SPECS, clock=FixedEventClock(START + 3600 * SECOND))


def put(ctx, stream, rows):
    written = [msgspec.json.encode({**row, "at": format_time(row["at"])}) for row in rows]
    append_raw(ctx, stream, written, history=True)


def sale(draw, number):
    at = START + (number // 3 * 2 - draw.choice((0, 0, 0, 0, 5, 40))) * SECOND
    return {"id": number, "at": at, "customer": draw.randrange(5), "shop": draw.choice(SHOPS),
            "amount": draw.choice((0.1, 0.2, 1e16, -1e16, -0.0, 7.3, None))}  # fmt: skip


def rows_of(ctx, stream):
    """The accepted events as the oracle takes them, from the log."""
    frame = log_history(ctx, stream)
    return frame.with_columns(pl.col("at").to_physical()).to_dicts()


def seen(rows, stream, positions):
    """With `_seen` 0 for the events that are within the vector, 1 for the others."""
    return [row for row in rows if row["_offset"] <= positions[f"{stream}@{partition_of(row['_offset'])}"]]


def expected(view, sales, refunds, request, *, own):
    """The columns of the view over the events that are seen; `own` is the offset of the asking event among them."""
    at, key, all_seen = request["at"], tuple(request[name] for name in view.by), float("inf")
    if isinstance(view, AttributeView):
        last = oracle.newest(sales, at, all_seen, key=key, by=view.by, ttl=view.ttl, own=own)
        return [None if last is None else last[name] for name in view.source_columns]
    values = []
    for _, width in view.over:
        window = oracle.windowed(sales, at, all_seen, width, key=key, by=view.by, delay=view.delay, own=own, own_row=request,
                                 own_event=view.own_event, resolution=view.resolution)  # fmt: skip
        for _, aggregate in view.aggregates:
            values.append(oracle.value(aggregate.kind, aggregate.column, window, empty=aggregate.empty, reports=refunds, at=at,
                                       resolution=view.resolution))  # fmt: skip
    return values


def check(ctx, reads):
    """Every read is what the oracle says at its logged position, and what a recomputation gives."""
    sales, refunds = rows_of(ctx, "sale"), rows_of(ctx, "refund")
    for read, values in reads:
        wanted = []
        for view in VIEWS:
            positions = read.positions[view.name]
            if view.name == "own":
                positions = {f"sale@{partition_of(positions['sale'] + 1)}": positions["sale"]}
                mine = [row for row in sales if row["customer"] == read.request["customer"]]
            else:
                mine = sales
            known = seen(mine, "sale", positions)
            reported = [] if view.join is None else seen(refunds, "refund", positions)
            own = next((row["_offset"] for row in known if row["id"] == read.own_id), None)
            wanted += expected(view, known, reported, read.request, own=own)
        found = dict(zip(FEATURES.columns, map(bits, values.tolist()), strict=True))
        assert found == dict(zip(FEATURES.columns, [None if v is None else bits(v + 0.0) for v in wanted], strict=True))
    frames = {"sale": log_history(ctx, "sale"), "refund": log_history(ctx, "refund")}
    again = recompute(FEATURES, [read for read, _ in reads], frames, SPECS, asking="sale")
    live = np.array([values for _, values in reads])
    assert again.tobytes() == live.tobytes()


def stream_of(ctx, draw, members, count):
    """Sales and refunds in random order, applied a little at a time by one of the members; yields requests between."""
    sales = [sale(draw, number) for number in range(count)]
    for first in range(0, count, 4):
        some = sales[first : first + 4] + draw.sample(sales[:first], min(first, 1))
        put(ctx, "sale", some)
        ids = [draw.choice((None, draw.randrange(count))) for _ in range(draw.randrange(3))]
        rows = [{"n": first * 10 + n, "id": i, "at": some[0]["at"] + draw.randrange(9) * SECOND} for n, i in enumerate(ids)]
        put(ctx, "refund", rows)
        for _ in range(draw.randrange(3)):
            draw.choice(members).step(max_records=draw.choice((1, 2, 100)))
        yield draw.choice(sales[: first + 8])


@pytest.mark.parametrize("seed", [1, 2])
def test_reads_while_events_flow_are_those_of_the_oracle_and_of_a_recomputation(tmp_path, seed):
    draw = random.Random(seed)
    ctx = opened(tmp_path)
    members = [Applying(ctx, name) for name in "ab"]
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="sale")
    reads = []
    for request in stream_of(ctx, draw, members, 80):
        row = reader.read(request, request["at"], request["id"])
        reads.append((LoggedRead(request, request["at"], request["id"], row.positions), row.values))
    vectors = {tuple(read.positions["shop"].values()) for read, _ in reads}
    assert len(vectors) > 5
    check(ctx, reads)
    ctx.close()
