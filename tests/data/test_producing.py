"""A producer killed at any write: its state says exactly what is in the log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import MakeContext
from shop_world import ORDER, SPECS, Faults, Killed, dying, event

from headrace.data.appending import append_raw
from headrace.data.producing import Producer, forget_before
from headrace.kernel.clocks import MACHINE
from headrace.kernel.specs import Specs

BATCHES = [[event("a"), event("b")], [event("c")], [event("d"), event("e")]]


@pytest.mark.parametrize("at", range(18))
def test_each_batch_is_in_the_log_once_and_the_state_goes_with_it(make_context: MakeContext, at: int) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", [event("other")])
    with pytest.raises(Killed):
        producer = Producer(dying(ctx, Faults(at)), "order", "p")
        for place, batch in enumerate(BATCHES):
            producer.append(batch, {"done": place + 1})
    append_raw(ctx, "order", [event("another")])
    producer = Producer(make_context(SPECS), "order", "p")
    done = producer.state["done"] if producer.state else 0
    values = ctx.events.read("shop/streams/order", 0, 0).values
    assert values == [event("other"), *(value for batch in BATCHES[:done] for value in batch), event("another")]
    if done:
        assert producer.offset is not None
        assert values[producer.offset] == BATCHES[done - 1][0]
    for place, batch in enumerate(BATCHES[done:], done):
        producer.append(batch, {"done": place + 1})
    values = ctx.events.read("shop/streams/order", 0, 0).values
    assert len(values) == len(set(values)) == 7


def test_a_producer_that_is_forgotten_begins_anew(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    for name in ("a_/1", "ab/1"):
        Producer(ctx, "order", name).append([event("a")], 1)
    forget_before(ctx, "a_/", MACHINE.now() + 1)
    assert [Producer(ctx, "order", name).state for name in ("a_/1", "ab/1")] == [None, 1]


def test_another_batch_than_the_announced_one_is_appended_whole(make_context: MakeContext) -> None:
    several = Specs([replace(ORDER, partitions=3)])
    first = [event(str(n), customer=n) for n in range(9)]
    with pytest.raises(Killed):
        Producer(dying(make_context(several), Faults(3)), "order", "p").append(first, 1)
    ctx = make_context(several)
    second = [*first[:4], event("new", customer=0), event("newer", customer=1), event("newest", customer=2), *first[4:]]
    producer = Producer(ctx, "order", "p")
    producer.append(second, 2)
    values = [value for p in range(3) for value in ctx.events.read("shop/streams/order", p, 0).values]
    assert set(values) == set(second)
    assert Producer(make_context(several), "order", "p").state == 2
