"""The figures of streams in /metrics, by their values."""

from __future__ import annotations

from conftest import MakeContext
from shop_world import ORDER, apply_all, event

from headrace.app.metrics import render_metrics
from headrace.data.appending import append_raw
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.specs import Specs
from headrace.kernel.times import SECOND


def figures(ctx: Context) -> dict[str, float]:
    """By name, of the stream `order`."""
    lines = (line.split('{stream="order",system="shop"} ') for line in render_metrics(ctx, [])[0].decode().splitlines())
    return {line[0].removeprefix("headrace_stream_"): float(line[1]) for line in lines if len(line) == 2}


def test_lag_and_staleness_are_of_the_oldest_event_that_waits(make_context: MakeContext) -> None:
    ctx = make_context(Specs([ORDER]))
    append_raw(ctx, "order", [event("a"), event("a"), event("b", amount="none")])
    appended = ctx.events.read(ctx.namespace.stream("order"), 0, 0).timestamps[0]
    while MACHINE.now() < appended + SECOND // 100:
        append_raw(ctx, "order", [event("later")])
    least = (MACHINE.now() - appended) / SECOND
    waiting = figures(ctx)
    most = (MACHINE.now() - appended) / SECOND
    assert least - 0.001 <= waiting["staleness_seconds"] <= most + 0.001, "the figure is rounded to milliseconds"
    end = ctx.events.end(ctx.namespace.stream("order"), 0)
    assert (waiting["lag"], waiting["position"], waiting["accepted_total"]) == (end, 0, 0)
    apply_all(ctx)
    assert figures(ctx) == {
        "staleness_seconds": 0, "lag": 0, "position": end, "accepted_total": 2, "quarantined_total": 1,
        "redelivered_total": end - 3,
    }  # fmt: skip
