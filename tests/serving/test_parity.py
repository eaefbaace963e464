"""Parity: logged features recomputed from the event log alone are the same to the bit; a corrupted state is found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from serving_world import FEATURES, SPECS, customer, linear_model, order, release, service, serving

from headrace.app.metrics import render_metrics
from headrace.app.pages.rendering import page
from headrace.app.status import status
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import OnlineViews
from headrace.features.state import HEADER, StateLayout
from headrace.kernel.errors import NotFound
from headrace.kernel.ids import key_bytes
from headrace.kernel.times import SECOND, parse_time
from headrace.serving.operations import check_parity
from headrace.serving.parity import parity
from headrace.serving.reading import prediction_records

MODELS = {1: linear_model([0.01, -0.02, 0.3, 0.2, 0.001, 0.002]), 2: linear_model([0.0] * 6)}
CUSTOMERS = ("ann", "bob", "cy")


class Shop:
    """Appends orders and applies them when told to."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.random = np.random.default_rng(5)
        self.number = 0
        self.applier = StreamApplier(ctx, ctx.specs.get(StreamSpec, "order"), [OnlineViews(ctx, [customer]).sink])

    def append(self, count: int) -> None:
        orders = [self.next() for _ in range(count)]
        append_raw(self.ctx, "order", [json.dumps(one).encode() for one in orders])

    def next(self) -> dict[str, Any]:
        self.number += 1
        day, hour = 16 + self.number // 24, self.number % 24
        return order(
            self.number, amount=round(float(self.random.uniform(1, 90)), 2), customer=CUSTOMERS[self.number % 3],
            at=f"2026-01-{day:02d}T{hour:02d}:30:00Z",
        )  # fmt: skip

    def apply(self) -> None:
        while self.applier.step():
            pass


@pytest.fixture
def shop(make_context: Any) -> Shop:
    ctx = make_context(SPECS)
    release(ctx, 1, challenger=2, weight=0.4, salt="r", rollout="r", shadows=(2,))
    shop = Shop(ctx)
    shop.append(240)
    shop.apply()
    return shop


def test_predictions_while_events_arrive_are_equal_to_the_bit(shop: Shop) -> None:
    with serving(shop.ctx, MODELS) as client:
        for _ in range(20):
            request = shop.next()
            assert client.predict(request)[0] == 200
            append_raw(shop.ctx, "order", [json.dumps(request).encode()])  # the request is an event too
            shop.append(3)
            shop.apply()
        late = {**request, "order_id": 10_000, "at": "2026-01-30T00:00:00Z"}
        assert client.predict(late)[0] == 200
    found = parity(shop.ctx, service.name)
    records = [record for _, record in prediction_records(shop.ctx, service.name)]
    assert {record.role for record in records} == {"champion", "canary", "shadow"}
    assert found.values_compared == len({record.id for record in records}) * len(FEATURES) < len(records) * len(FEATURES)
    assert (found.values_different, found.values_stale, found.max_staleness_s, found.differences) == (0, 0, 0.0, [])
    assert len({record.features[FEATURES.index("customer_sum_7d")] for record in records}) > 15


def test_an_appended_event_that_is_not_applied_shows_as_staleness_not_as_a_difference(shop: Shop) -> None:
    with serving(shop.ctx, MODELS) as client:
        shop.append(3)
        request = shop.next()
        assert client.predict(request)[0] == 200
        shop.apply()
        assert client.predict(shop.next())[0] == 200
    found = parity(shop.ctx, service.name)
    assert found.values_different == 0
    assert found.values_stale > 0 and found.max_staleness_s > 0.0


@pytest.mark.parametrize("error", [1.0, 2.0**-40])
def test_one_corrupted_online_value_is_the_one_that_is_reported(shop: Shop, error: float) -> None:
    layout = StateLayout(customer, shop.ctx.specs.get(StreamSpec, "order"), shop.ctx.namespace)
    key = layout.key(key_bytes(("cy",)))
    blob = shop.ctx.online.get(key)
    assert blob is not None
    words = np.frombuffer(blob, np.int64, offset=HEADER.size).copy()
    size = len(words) // len(layout.words)
    asked = order(9_999, customer="cy", at="2026-01-27T23:00:00Z")
    with serving(shop.ctx, MODELS) as client:
        times = words[:size]
        at = 1_769_554_800_000_000  # 2026-01-27T23:00:00Z
        place = int(times.searchsorted(at - 3 * 86_400_000_000))  # in the window of 7 days, not in that of 1 day
        amount = words[layout.words["value amount"] * size :][place : place + 1].view(np.float64)
        amount += error
        shop.ctx.online.write({key: blob[: HEADER.size] + words.tobytes()})
        status, answer = client.predict(asked)
        assert status == 200
    found = parity(shop.ctx, service.name)
    records = [record.role for _, record in prediction_records(shop.ctx, service.name)]
    assert "shadow" in records and len(records) > 1, "two versions have scored the one prediction"
    mine = [(one.prediction_id, one.feature) for one in found.differences]
    assert mine == [(answer["prediction_id"], "customer_sum_7d")]
    assert (found.values_compared, found.values_different) == (len(FEATURES), 1)
    wrong = found.differences[0]
    assert wrong.logged is not None and wrong.recomputed is not None
    assert wrong.logged - wrong.recomputed == pytest.approx(error, rel=0.3)


def test_the_last_check_is_in_the_status_and_the_metrics(shop: Shop) -> None:
    def figures() -> dict[str, str]:
        lines = render_metrics(shop.ctx, [])[0].decode().splitlines()
        label = '{service="quiet",system="shop"} '
        found = (line.removeprefix("headrace_parity_").split(label) for line in lines if line.startswith("headrace_parity"))
        return dict(found)

    assert figures() == {} and status(shop.ctx).parity == [], "nothing was checked"
    with serving(shop.ctx, MODELS) as client:
        shop.append(3)
        assert client.predict(shop.next())[0] == 200
        shop.apply()
    found = check_parity(shop.ctx, service=service.name)
    assert found.values_stale > 0
    (last,) = status(shop.ctx).parity
    assert (last.service, last.values_compared, last.values_different) == ("quiet", len(FEATURES), 0)
    assert (last.values_stale, last.max_staleness_s) == (found.values_stale, found.max_staleness_s)
    shown = {name: float(value) for name, value in figures().items()}
    assert shown == {
        "values_compared": len(FEATURES), "values_different": 0, "values_stale": found.values_stale,
        "max_staleness_seconds": found.max_staleness_s, "checked_timestamp_seconds": parse_time(last.checked_at) / SECOND,
    }  # fmt: skip
    assert b"Last parity check" in page("status.html", system="shop", status=status(shop.ctx), problems={}).body
    with serving(shop.ctx, MODELS) as client:
        assert client.predict(shop.next())[0] == 200
    check_parity(shop.ctx, service=service.name)
    assert figures()["values_compared"] == f"{2 * len(FEATURES):.1f}", "the last check takes the place of the one before"


def test_features_sent_by_the_client_are_not_compared(shop: Shop) -> None:
    with serving(shop.ctx, MODELS) as client:
        assert client.request("POST", "/predict", {"input": [1, 2, 3, 4, 5, 6]})[0] == 200
    assert check_parity(shop.ctx, service=service.name).values_compared == 0
    with pytest.raises(NotFound, match="known: `quiet`"):
        check_parity(shop.ctx, service="other")
