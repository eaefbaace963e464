"""Views by something else than a stream's key, of several partitions: online, recomputed and backfilled as the oracle says."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from shutil import rmtree

import msgspec
import numpy as np
import oracle
import polars as pl
import pytest
from scenario import bits

import headrace as hr
from headrace.app.applying import ASSIGN_SECONDS, Applying
from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.data.types import StreamSpec
from headrace.engines.events.segments import SegmentLog
from headrace.engines.open import open_context
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, matrix
from headrace.features.backfill_files import backfill_files
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.rekeyed_views import FAR_BEHIND
from headrace.features.types import AttributeView, EventSpine, FeatureSet, stored_views
from headrace.features.view_lag import view_lags
from headrace.kernel.clocks import MACHINE, FixedEventClock
from headrace.kernel.partitions import partition_of
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import format_time
from headrace.system.feature_catalogue import listed

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
    """The events that are within the vector."""
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


def flowed(ctx, seed, count):
    """Reads while events flow, each with its values."""
    draw = random.Random(seed)
    members = [Applying(ctx, name) for name in "ab"]
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="sale")
    reads = []
    for request in stream_of(ctx, draw, members, count):
        row = reader.read(request, request["at"], request["id"])
        reads.append((LoggedRead(request, request["at"], request["id"], row.positions), row.values))
    return reads, members


def drained(ctx, members=(), far_behind=FAR_BEHIND):
    """Apply everything that is there: the members give up what they have, and one takes it all."""
    for member in members:
        member.leave()
    last = Applying(ctx, "last", far_behind=far_behind)
    while last.step() or any(found.lag for found in view_lags(ctx, VIEWS)):
        pass
    last.leave()


def everything(ctx):
    """The values of all keys, as of the end, with the positions."""
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="sale")
    at = START + 60 * SECOND
    asked = [{"id": 10_000, "at": at, "customer": c, "shop": s, "amount": 1.0} for c in range(5) for s in SHOPS]
    rows = [reader.read(request, at, None) for request in asked]
    return np.array([row.values for row in rows]).tobytes(), [row.positions for row in rows]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_reads_while_events_flow_are_those_of_the_oracle_and_of_a_recomputation(tmp_path, seed):
    ctx = opened(tmp_path)
    reads, _ = flowed(ctx, seed, 40 if seed == 1 else 400)
    vectors = {tuple(read.positions["shop"].values()) for read, _ in reads}
    assert len(vectors) > 3
    check(ctx, reads)
    ctx.close()


def test_an_event_is_backfilled_with_what_had_been_created_in_other_partitions(tmp_path):
    """The rule, as a loop: a re-keyed view sees what had been created when the asking event was, of equal creation by position;
    one that is applied straight from its stream what came before."""
    ctx = opened(tmp_path)
    _, members = flowed(ctx, 4, 60)
    drained(ctx, members)
    sales, refunds = rows_of(ctx, "sale"), rows_of(ctx, "refund")
    frames = {"sale": history(ctx, "sale"), "refund": history(ctx, "refund")}
    filled = backfill(FEATURES, asking_points(EventSpine("sale"), frames, SPECS), frames, SPECS, spine="sale")
    different = 0
    for request, values in zip(sales, matrix(FEATURES, filled).tolist(), strict=True):
        known = [row for row in sales if (row["_created"], row["_offset"]) <= (request["_created"], request["_offset"])]
        before = [row for row in sales if row["_offset"] <= request["_offset"]]
        different += len(known) != len(before)
        wanted = []
        for view in VIEWS:
            wanted += expected(view, before if view.name == "own" else known, refunds, request, own=request["_offset"])
        assert list(map(bits, values)) == [None if v is None else bits(v + 0.0) for v in wanted]
    assert different > 5 and len({partition_of(row["_offset"]) for row in sales}) == 3
    ctx.close()


def test_training_values_are_the_same_in_whatever_order_history_was_imported(tmp_path):
    draw = random.Random(11)
    sales = [row | {"at": row["at"] + row["id"]} for row in (sale(draw, number) for number in range(90))]  # (no two at once)
    sales.sort(key=lambda row: row["at"])
    found = []
    for name, parts in (("older", (sales[:45], sales[45:])), ("newer", (sales[45:], sales[:45]))):
        ctx = opened(tmp_path / name)
        for part in parts:
            put(ctx, "sale", part)
            drained(ctx)
        frames = {"sale": history(ctx, "sale"), "refund": history(ctx, "refund")}
        rows = backfill(FEATURES, asking_points(EventSpine("sale"), frames, SPECS), frames, SPECS, spine="sale").sort("id")
        found.append(rows.select(name for view in VIEWS if view.name != "own" for name in view.columns))
        ctx.close()
    assert found[0].height == 90 and found[0].equals(found[1], null_equal=True)


def copied(ctx, folder):
    """Another world with the same logs of its streams, of which nothing is applied."""
    other = opened(folder)
    for spec in SPECS.all(StreamSpec):
        topic = f"market/streams/{spec.name}"
        other.events.create(topic, spec.partitions)
        for partition in range(spec.partitions):
            records = ctx.events.read(topic, partition, 0)
            other.events.append(topic, partition, records.values, headers=records.headers)
    return other


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["online", "topics", "both"])
def test_a_lost_online_store_and_lost_topics_are_built_again_from_the_history(tmp_path, lost):
    ctx = opened(tmp_path)
    _, members = flowed(ctx, 5, 40)
    drained(ctx, members)
    put(ctx, "sale", [sale(random.Random(6), 100 + n) for n in range(9)])  # the history is in the lake, these are in the log
    if lost != "topics":
        ctx.online.write({key: None for key, _ in list(ctx.online.scan(b"market/"))})
    ctx.close()
    if lost != "online":
        rmtree(next(tmp_path.rglob("rekeyed")))
    ctx = opened(tmp_path)
    drained(ctx)
    alone = copied(ctx, tmp_path / "alone")
    drained(alone)
    values, positions = everything(ctx)
    assert (values, positions) == everything(alone)
    assert np.frombuffer(values).any()
    for context in (ctx, alone):
        context.close()


@pytest.mark.slow
def test_topics_drop_what_all_views_have_applied_and_a_lost_view_takes_it_from_the_history(tmp_path):
    ctx = opened(tmp_path)
    ctx = replace(ctx, events=SegmentLog(tmp_path / "small", segment_bytes=4096))
    _, members = flowed(ctx, 7, 120)
    drained(ctx, members)
    topics = {name: count for name, count in ctx.events.topics().items() if "/rekeyed/" in name}
    assert sorted(topics) == [f"market/rekeyed/sale/{by}" for by in ("-", "customer", "shop", "shop-id")]
    assert {info.name for info in listed(ctx)} == {view.name for view in VIEWS}, "no stream, no view of its own"
    assert min(ctx.events.first(name, part) for name, count in topics.items() for part in range(count)) > 0
    views = [view.definition_hash.encode() for view in VIEWS if view.name in ("shop", "all", "risk")]
    before = everything(ctx)
    for hashed in views:
        ctx.online.write({key: None for key, _ in list(ctx.online.scan(b"market/view/" + hashed))})
    assert everything(ctx) != before
    drained(ctx)
    assert everything(ctx) == before
    ctx.close()


@pytest.mark.slow
def test_a_file_is_one_partition_in_memory_and_spilled(tmp_path):
    draw = random.Random(8)
    rows = {"sale": [sale(draw, n) for n in range(300)]}
    rows["refund"] = [{"n": n, "id": draw.randrange(300), "at": rows["sale"][n]["at"]} for n in range(0, 300, 3)]
    paths = {stream: tmp_path / f"{stream}.ndjson" for stream in rows}
    for stream, events in rows.items():
        written = (msgspec.json.encode({**row, "at": format_time(row["at"])}) for row in events)
        paths[stream].write_bytes(b"\n".join(written))
    tables = []
    for memory in ("64GB", "300KB"):
        backfill_files(SPECS, paths, spine="sale", memory=memory, out=tmp_path / f"{memory}.parquet")
        tables.append(pl.read_parquet(tmp_path / f"{memory}.parquet"))
    assert tables[0].height == 300 and tables[0]["shop_n_60s"].max() > 3
    assert [[bits(v) for v in row[2:]] for row in tables[0].rows()] == [[bits(v) for v in row[2:]] for row in tables[1].rows()]
    sales = [{**row, "_offset": n, "_created": row["at"]} for n, row in enumerate(rows["sale"])]
    refunds = [{**row, "_offset": n} for n, row in enumerate(rows["refund"])]
    for asked, row in list(zip(sales, tables[0].rows(named=True), strict=True))[::9]:
        for view in VIEWS:
            wanted = expected(view, sales[: asked["_offset"] + 1], refunds, asked, own=asked["_offset"])
            assert [bits(row[name]) for name in view.columns] == [None if v is None else bits(v + 0.0) for v in wanted]


@pytest.mark.slow
@pytest.mark.parametrize("far_behind", [0, FAR_BEHIND])
def test_a_view_that_is_added_while_events_flow_misses_nothing(tmp_path, far_behind):
    """Beside the stream in a thread, or between two of its steps."""
    late = ("shop", "all", "risk")
    fewer = Specs([spec for spec in SPECS.everything() if spec.name not in late])
    ctx = open_context(Settings(data=tmp_path / "data"), "market", fewer, clock=FixedEventClock(START + 3600 * SECOND))
    draw = random.Random(9)
    members = [Applying(ctx, name, far_behind=far_behind) for name in "ab"]
    flow = stream_of(ctx, draw, members, 120)
    for _ in range(15):
        next(flow)
    ctx.specs.take(SPECS)
    assert sum(1 for _ in flow) == 15
    MACHINE.sleep(ASSIGN_SECONDS)
    put(ctx, "sale", [sale(draw, number) for number in range(200, 220)])
    for member in members * 3:
        member.step()
    drained(ctx, members, far_behind)
    alone = copied(ctx, tmp_path / "alone")
    drained(alone)
    assert everything(ctx) == everything(alone)
    for context in (ctx, alone):
        context.close()
