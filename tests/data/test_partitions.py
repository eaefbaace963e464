"""Streams of several partitions: where events go, what an id means across them, and who may write."""

from dataclasses import replace
from datetime import datetime

import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import BAD, ORDER, STORY, Collected, Faults, Killed, dying, event

import headrace as hr
from headrace.data import quarantine
from headrace.data.appending import append_raw, stream_ends
from headrace.data.applying import StreamApplier
from headrace.data.fencing import Fence
from headrace.data.history import history, log_history
from headrace.data.lake_sink import LakeSink
from headrace.data.positions import check_logs, positions
from headrace.data.producing import Producer
from headrace.data.replaying import replay
from headrace.data.status import stream_status
from headrace.data.stream_checks import volume
from headrace.data.types import Volume
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, Fenced, InvalidSystem
from headrace.kernel.partitions import base_of, partition_of, partition_of_key
from headrace.kernel.specs import Specs
from headrace.kernel.times import HOUR, parse_time

WIDE = replace(ORDER, partitions=3)
SPECS = Specs([WIDE])
TOPIC = "shop/streams/order"


def _apply(ctx: Context, *sinks: Collected, partitions: tuple[int, ...] = (0, 1, 2), max_records: int = 65_536) -> None:
    for partition in partitions:
        lake = LakeSink(ctx, WIDE, partition)
        applier = StreamApplier(ctx, WIDE, [*sinks, lake], partition)
        while applier.step(max_records):
            pass
        lake.flush()


def _customer_in(partition: int, *, after: int = 0) -> int:
    return next(c for c in range(after, after + 100) if partition_of_key(c, 3) == partition)


def test_events_go_to_the_partition_of_their_key_and_what_cannot_be_read_to_the_first(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    values = [event(f"e{n}", customer=n) for n in range(60)]
    assert partition_of(append_raw(ctx, "order", values)) == partition_of_key(0, 3)
    append_raw(ctx, "order", [b"not JSON", event("no_key", customer=None)])
    for partition in range(3):
        own = [event(f"e{n}", customer=n) for n in range(60) if partition_of_key(n, 3) == partition]
        assert ctx.events.read(TOPIC, partition, 0).values[: len(own)] == own
        assert len(own) > 5
    assert (sum(stream_ends(ctx, "order")), stream_ends(ctx, "order")[0]) == (62, ctx.events.end(TOPIC, 0))


def test_the_volume_of_a_stream_counts_every_partition(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    customer = _customer_in(2)
    append_raw(ctx, "order", [event(f"e{hour}", customer=customer, at=f"2026-01-30T{hour}:30:00Z") for hour in range(10, 15)])
    _apply(ctx, partitions=(2,))
    good, found, _ = volume(ctx, WIDE, Volume(HOUR, 0.5, 2.0, 5), parse_time("2026-01-30T15:00:00Z"))
    assert (good, found) == (True, "1 events from 2026-01-30T14:00:00Z")


def test_history_is_the_same_from_the_lake_the_tail_and_the_log(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", STORY[:9])
    _apply(ctx)
    append_raw(ctx, "order", [*STORY[9:], *(event(f"e{n}", customer=n) for n in range(30))])
    appliers = [StreamApplier(ctx, WIDE, [], partition) for partition in range(3)]
    while any(applier.step(4) for applier in appliers):
        pass
    tail = history(ctx, "order")
    assert tail["_offset"].is_sorted()
    assert tail["id"].n_unique() == tail.height == 36
    assert {partition_of(offset) for offset in tail["_offset"]} == {0, 1, 2}
    assert_frame_equal(log_history(ctx, "order"), tail)
    _apply(ctx)
    assert_frame_equal(history(ctx, "order"), tail)
    assert ctx.lake.read(TOPIC).select("_partition", "_offset").n_unique() == 36
    (status,) = stream_status(ctx)
    assert (status.accepted, status.redelivered, status.quarantined) == (36, 2, len(BAD))
    assert status.position == status.end == len(STORY) + 30


def test_an_id_is_accepted_in_one_partition_only(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    first, second = _customer_in(0), _customer_in(1)
    append_raw(ctx, "order", [event("same", customer=first), event("same", customer=second), event("other", customer=second)])
    _apply(ctx, partitions=(1, 0, 2))
    assert sorted(history(ctx, "order").select("id", "customer").rows()) == [("other", second), ("same", second)]
    assert [(entry.id, entry.reason) for entry in quarantine.entries(ctx, "order")] == [("same", quarantine.OTHER_CONTENT)]


def test_two_partitions_that_take_one_id_at_the_same_moment_accept_it_once(make_context: MakeContext) -> None:
    """The second partition takes the id after the first has looked it up, and before it has stored it."""
    ctx = make_context(SPECS)
    first, second = _customer_in(0), _customer_in(1)
    append_raw(ctx, "order", [event("same", customer=first), event("a", customer=first), event("same", customer=second)])

    class Interleaving:
        """The online store of a process that is overtaken at its first look-up."""

        def __init__(self) -> None:
            self.overtaken = False

        def __getattr__(self, name: str) -> object:
            return getattr(ctx.online, name)

        def get_many(self, keys: list[bytes]) -> list[bytes | None]:
            found = ctx.online.get_many(keys)
            if not self.overtaken:
                self.overtaken = True
                _apply(ctx, partitions=(1,))
            return found

    slow = replace(ctx, online=Interleaving())  # type: ignore[arg-type]
    StreamApplier(slow, WIDE, [], 0).step()
    assert sorted(history(ctx, "order").select("id", "customer").rows()) == [("a", first), ("same", second)]
    assert [entry.reason for entry in quarantine.entries(ctx, "order")] == [quarantine.OTHER_CONTENT]
    assert [at.quarantined for at in positions(ctx, WIDE)] == [1, 0, 0]


def test_an_applier_that_was_replaced_can_write_nothing(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    customer = _customer_in(2)
    append_raw(ctx, "order", [event(f"e{n}", customer=customer) for n in range(8)])
    sinks = [LakeSink(ctx, WIDE, 2) for _ in range(2)]
    old = StreamApplier(ctx, WIDE, [sinks[0]], 2)
    old.step(4)
    new = StreamApplier(ctx, WIDE, [sinks[1]], 2)
    with pytest.raises(Fenced):
        old.step(4)
    new.step(4)
    sinks[0].flush()
    with pytest.raises(Fenced, match="committed up to"):
        sinks[1].flush()
    again = LakeSink(ctx, WIDE, 2)
    again.flush()
    assert ctx.lake.read(TOPIC)["_offset"].sort().to_list() == list(range(8))
    assert positions(ctx, WIDE)[2].accepted == 8
    other = StreamApplier(ctx, WIDE, [], 0, fence=Fence(ctx, "order", 0))
    assert other.step() == 0, "the fences of partitions are apart"


@pytest.mark.slow
def test_a_step_killed_at_any_write_and_done_again_loses_and_doubles_nothing(make_context: MakeContext) -> None:
    expected = None
    values = [*STORY, *(event(f"e{n}", customer=n) for n in range(9)), event("e3", customer=3)]
    for at in range(200):
        system = f"shop{at}"
        ctx = make_context(SPECS, system=system)
        append_raw(ctx, "order", values)
        try:
            _apply(dying(ctx, Faults(at)), max_records=6)
            died = False
        except Killed:
            died = True
        _apply(ctx, max_records=7)
        (status,) = stream_status(ctx)
        rows = ctx.lake.read(f"{system}/streams/order").sort("_partition", "_offset")
        found = (
            rows.select("_partition", "_offset", "id").rows(),
            sorted((entry.offset, entry.reason) for entry in quarantine.entries(ctx, "order")),
            (status.accepted, status.redelivered, status.quarantined),
        )
        expected = expected or found
        assert found == expected, f"killed at write {at}"
        if not died:
            break
    assert at > 25
    assert (status.accepted, status.redelivered) == (15, 3)


def test_a_lost_online_store_is_rebuilt_for_all_partitions(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    first, second = _customer_in(0), _customer_in(1)
    append_raw(ctx, "order", [event("a", customer=first), event("b", customer=second)])
    _apply(ctx)
    ctx.online.write({key: None for key, _ in list(ctx.online.scan(b"shop/"))})
    append_raw(ctx, "order", [event("b", customer=first), event("a", customer=first)])
    _apply(ctx, partitions=(0,))
    assert history(ctx, "order").height == 2, "partition 0 knows the ids of partition 1"
    assert stream_status(ctx)[0].redelivered == 1


def test_an_event_in_a_partition_that_is_not_its_own_is_refused_and_replayed_into_it(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    ctx.events.create(TOPIC, 3)
    customer = _customer_in(1)
    ctx.events.append(TOPIC, 2, [event("lost", customer=customer)])
    _apply(ctx)
    (entry,) = quarantine.entries(ctx, "order")
    assert (entry.offset, entry.field) == (base_of(2), "customer")
    assert "belongs to partition 1" in entry.reason
    assert replay(ctx, "order") == {"replayed": 1, "still_bad": 0}
    _apply(ctx)
    assert history(ctx, "order")["_offset"].to_list() == [base_of(1)]
    assert quarantine.entries(ctx, "order") == []


def test_a_producers_batch_that_was_cut_off_between_partitions_is_completed(make_context: MakeContext) -> None:
    values = [event(f"e{n}", customer=n) for n in range(12)]
    for at in range(40):
        ctx = make_context(SPECS, system=f"shop{at}")
        append_raw(ctx, "order", values[:3])
        died = False
        try:
            Producer(dying(ctx, Faults(at)), "order", "file").append(values[3:], {"rows": 9})
        except Killed:
            died = True
        producer = Producer(ctx, "order", "file")
        if producer.state is None:
            producer.append(values[3:], {"rows": 9})
        assert Producer(ctx, "order", "file").state == {"rows": 9}
        topic = ctx.namespace.stream("order")
        found = [value for partition in range(3) for value in ctx.events.read(topic, partition, 0).values]
        assert sorted(found) == sorted(values), f"killed at write {at}"
        if not died:
            break
    assert at > 6


def test_a_producer_that_goes_on_with_other_events_than_it_was_cut_off_with_appends_them_all(make_context: MakeContext) -> None:
    first, second = _customer_in(0), _customer_in(1)
    cut_off = [event("a", customer=first), event("b", customer=second)]
    ctx = make_context(SPECS)
    with pytest.raises(Killed):  # after the announcement and the part of partition 0
        Producer(dying(ctx, Faults(3)), "order", "p").append(cut_off, {"rows": 2})
    assert stream_ends(ctx, "order") == [1, 0, 0]
    Producer(ctx, "order", "p").append([event("c", customer=first), *cut_off], {"rows": 3})
    _apply(ctx)
    assert sorted(history(ctx, "order")["id"]) == ["a", "b", "c"]


def test_another_number_of_partitions_than_the_log_has_is_refused(make_context: MakeContext) -> None:
    append_raw(make_context(Specs([ORDER])), "order", [event("a")])
    with pytest.raises(CheckFailed, match="declares 3 partitions, its log has 1"):
        check_logs(make_context(SPECS))


def test_a_number_of_partitions_out_of_bounds_is_refused() -> None:
    system = hr.System("wide")

    class Sale:
        id: str
        at: datetime

    for number in (0, 257):
        with pytest.raises(InvalidSystem, match=f"partitions={number}; allowed: 1 to 256"):
            system.stream(id="id", key="id", time="at", partitions=number)(Sale)
