"""The system that `benchmarks/streaming.py` streams into: two views of one stream, by an integer and by texts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import headrace as hr

system = hr.System("streaming")


@system.stream(id="event_id", key="user", time="at")
class Payment:
    event_id: int
    at: datetime
    user: int
    amount: Annotated[float, hr.Range(min=0)]


@system.stream(id="event_id", key="customer", time="at")
class Click:
    event_id: str
    at: datetime
    customer: str
    shop: str
    amount: Annotated[float, hr.Range(min=0)]


of_amount = {"count": hr.count(), "sum": hr.sum("amount"), "mean": hr.mean("amount")}
payments_hour = system.windows(Payment, by="user", name="payments_hour", over=["1h"], **of_amount)
payments_day = system.windows(Payment, by="user", name="payments_day", over=["24h"], **of_amount)
clicks_hour = system.windows(Click, by="customer", name="clicks_hour", over=["1h"], **of_amount)
clicks_day = system.windows(Click, by=["customer", "shop"], name="clicks_day", over=["24h"], **of_amount)
