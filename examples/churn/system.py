"""Churn of a web shop: who will not order within 30 days, asked every week for each customer."""

from datetime import datetime
from typing import Annotated

import headrace as hr

system = hr.System("churn")


@system.stream(id="order_id", key="customer", time="placed_at", lateness="2d")
class Order:
    """An order as the shop sends it; the customer is known by a string."""

    order_id: str
    placed_at: datetime
    customer: str
    channel: Annotated[str, hr.OneOf(("web", "app", "shop"))]
    total: Annotated[float, hr.Range(min=0)]
    items: Annotated[int, hr.Range(min=1)]
    coupon: str | None


class Question:
    """Will this customer leave?"""

    customer: str


def in_app(channel):
    return channel == "app"


orders = system.windows(
    Order, by="customer", over=["7d", "30d", "90d"], name="orders", count=hr.count(), spent=hr.sum("total"),
    items=hr.mean("items", empty=0), spread=hr.std("total"), channels=hr.distinct("channel"),
)  # fmt: skip
app = system.windows(
    Order, by="customer", over=["30d"], name="app", where=in_app, count=hr.count(), last_total=hr.last("total")
)


@system.features
def habit(orders_count_30d, orders_count_90d):
    return {"slowing": orders_count_30d * 3 < orders_count_90d}


@system.model(
    features=[orders, app, habit],
    label=hr.no_event(Order, by="customer", within="30d"),
    spine=hr.every("1w", key="customer"),
    search={"num_leaves": [7, 15, 31]},
)
def churn(rows, labels, *, num_leaves=15):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(num_leaves=num_leaves, n_estimators=50, random_state=0, n_jobs=1, verbose=-1).fit(rows, labels)


leaving = system.service(
    churn,
    request=Question,
    key="customer",
    name="leaving",
    release=hr.shadow("2d") >> hr.canary(20, 100) >> hr.probation("31d"),
)
system.watch(leaving, retrain_when=hr.drift_score > 0.2, at_most="1/30d", window="14d", train_on="60d", holdout="14d")
