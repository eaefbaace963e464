"""Texts of windows, declared and read through the public door: given to functions, never to a model."""

from __future__ import annotations

from datetime import datetime

import pytest

import headrace as hr
from headrace.kernel.errors import InvalidSystem
from headrace.training.types import ModelSpec


def shop():
    system = hr.System("shop")

    @system.stream(id="id", key="who", time="at")
    class Order:
        id: int
        at: datetime
        who: str
        country: str

    orders = system.windows(Order, by="who", over=["7d"], country=hr.last("country"), n=hr.distinct("country"))
    return system, Order, orders


def test_a_function_reads_a_text_and_a_model_does_not():
    system, order, orders = shop()

    @system.features
    def abroad(country, who_country_7d):
        return {"abroad": [then is not None and now != then.upper() for now, then in zip(country, who_country_7d, strict=True)]}

    @system.model(features=[orders, abroad], label=hr.no_event(order, by="who", within="7d"), spine=order)
    def churn(rows, labels):
        return None

    (model,) = system.specs().all(ModelSpec)
    assert model.features.columns == ("who_n_7d", "abroad")
    assert model.features.given == ("who_country_7d", "who_n_7d", "abroad")


def test_a_text_that_no_function_reads_is_refused():
    system, order, orders = shop()
    with pytest.raises(InvalidSystem, match="`who_country_7d` of model `churn` is a text"):

        @system.model(features=[orders], label=hr.no_event(order, by="who", within="7d"), spine=order)
        def churn(rows, labels):
            return None
