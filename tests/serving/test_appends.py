"""A service that appends its answered requests to a stream: each is an event once, before the reply, and parity holds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import numpy as np
import pytest
from serving_world import constant_model, half_broken_model, order, release, service, serving

import headrace as hr
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import log_history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import OnlineViews
from headrace.features.types import stored_views
from headrace.kernel.specs import Specs
from headrace.serving.parity import parity
from headrace.serving.reading import prediction_records

MODEL = constant_model(0.25)


def declared(partitions: int, *, elsewhere: bool = False) -> Specs:
    """The system of `serving_world`, its requests appended to the stream that they are events of, or to another one."""
    system = hr.System("shop")

    @system.stream(id="order_id", key="customer_id", time="at", partitions=partitions)
    class Order:
        """An order."""

        order_id: int
        at: Annotated[datetime, hr.From("time", epoch="s")]
        customer_id: str
        amount: Annotated[float, hr.From("total.amount", text=True), hr.Range(min=0)]

    @system.stream(id="customer_id", key="customer_id", time="at")
    class Asked:
        """A customer who has asked."""

        customer_id: str
        at: datetime
        channel: str = "web"
        note: str | None

    customer = system.windows(
        Order, by="customer_id", over=["1d", "7d"], own_event=True, count=hr.count(), sum=hr.sum("amount")
    )
    label = hr.no_event(Order, by="customer_id", within="7d")

    @system.features
    def doubled(amount: np.ndarray) -> dict[str, np.ndarray]:
        return {"twice": amount * 2}

    @system.model(features=["amount", doubled, customer], label=label, spine=Order)
    def quiet(rows: np.ndarray, labels: np.ndarray) -> Any:
        raise NotImplementedError("these tests make their models themselves")

    system.service(quiet, request=Order, appends=Asked if elsewhere else Order)
    return system.specs()


class Applied:
    """Applies the stream's partitions when told to."""

    def __init__(self, ctx: Context) -> None:
        spec = ctx.specs.get(StreamSpec, "order")
        sinks = [OnlineViews(ctx, list(stored_views(ctx.specs))).sink]
        self._appliers = [StreamApplier(ctx, spec, sinks, partition) for partition in range(spec.partitions)]

    def apply(self) -> None:
        for applier in self._appliers:
            while applier.step():
                pass


def ends(ctx: Context) -> list[int]:
    topic = ctx.namespace.stream("order")
    return [ctx.events.end(topic, partition) for partition in range(ctx.specs.get(StreamSpec, "order").partitions)]


@pytest.mark.parametrize("partitions", [1, 3])
def test_each_answered_request_is_an_event_once_and_parity_holds(make_context: Any, partitions: int) -> None:
    ctx = make_context(declared(partitions))
    release(ctx, 1)
    requests = [order(n, customer="abc"[n % 3], amount=n / 7, at=f"2026-01-30T10:00:{n:02d}.123456+00:00") for n in range(30)]
    with serving(ctx, {1: MODEL}) as client:
        stream = Applied(ctx)
        for number, request in enumerate(requests):
            status, answer = client.predict(request)
            assert status == 200 and sum(ends(ctx)) == number + 1, "it is in the log on the reply"
            assert client.predict(request) == (200, answer)
            if number % 4 == 0:
                stream.apply()
        stream.apply()
        status, answers = client.request("POST", f"/services/{service.name}/predict/batch", {"rows": requests})
        assert status == 200 and sum(ends(ctx)) == len(requests), "a batch of retries"
    with serving(ctx, {1: MODEL}) as client:
        assert client.predict(requests[0])[1] == answers["predictions"][0]
        again = client.predict(requests[29], idempotency_key="asked by another key")
        assert again[0] == 200 and again[1]["prediction_id"] != answers["predictions"][29]["prediction_id"]
    stream.apply()
    events = log_history(ctx, "order").sort("order_id")
    assert events["order_id"].to_list() == list(range(30)) and sum(ends(ctx)) == 31
    assert events["amount"].to_list() == [request["amount"] for request in requests]
    assert events["at"].dt.to_string("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_list() == [request["at"] for request in requests]
    columns = service.model.features.columns
    counts = [dict(zip(columns, r.features, strict=True))["customer_count_7d"] for _, r in prediction_records(ctx, "quiet")]
    assert counts[24] == 8 and counts[30] == 10, "asked before and after its own event had arrived"
    found = parity(ctx, "quiet")
    assert (found.values_compared, found.values_different) == (31 * len(columns), 0)


def test_an_event_that_is_sent_as_well_is_a_redelivery(make_context: Any) -> None:
    ctx = make_context(declared(1))
    release(ctx, 1)
    stream = Applied(ctx)
    sent = b'{"order_id":5,"time":1769770800,"customer_id":"a","total":{"amount":"12.50"}}'
    append_raw(ctx, "order", [sent])
    stream.apply()
    with serving(ctx, {1: MODEL}) as client:
        request = order(5, customer="a", amount=12.5, at="2026-01-30T11:00:00Z")
        assert client.predict(request)[0] == 200
        stream.apply()
        append_raw(ctx, "order", [sent])
        stream.apply()
        assert client.predict(order(6, customer="a", amount=1.0, at="2026-01-30T11:00:00Z"))[0] == 200
    records = [record for _, record in prediction_records(ctx, "quiet")]
    place = service.model.features.columns.index("customer_count_1d")
    assert [record.features[place] for record in records] == [1.0, 2.0]
    assert log_history(ctx, "order")["order_id"].to_list() == [5, 6] and ends(ctx) == [4]
    assert parity(ctx, "quiet").values_different == 0


def test_what_is_not_answered_or_is_no_request_is_not_appended(make_context: Any) -> None:
    ctx = make_context(declared(1))
    release(ctx, 1, challenger=2, weight=1.0, salt="r", rollout="r", shadows=(2,))
    with serving(ctx, {1: half_broken_model(), 2: half_broken_model()}) as client:
        assert client.predict(order(1, amount=1.0))[0] == 500
        assert client.predict(order(2, amount=-1.0))[0] == 400
        assert client.request("POST", "/predict", {"input": [30, 2, 3, 4, 5, 6]})[0] == 200
        assert ends(ctx) == [0]
        assert client.predict(order(3, amount=30.0))[0] == 200
    assert ends(ctx) == [1]


def test_the_stream_may_be_another_one_than_the_request(make_context: Any) -> None:
    ctx = make_context(declared(1, elsewhere=True))
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        for number in (1, 2):
            assert client.predict(order(number, customer="ann"))[0] == 200
    StreamApplier(ctx, ctx.specs.get(StreamSpec, "asked"), []).step()
    events = log_history(ctx, "asked").select("customer_id", "channel", "note").rows()
    assert events == [("ann", "web", None)], "the second is a redelivery by the id of the stream"
    assert ends(ctx) == [0] and parity(ctx, "quiet").values_different == 0
