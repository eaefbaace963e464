"""A small shop for the fault suite: its system file, its events, and its window features by a plain loop."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SYSTEM = '''"""Which orders of a shop will be complained about?"""

from datetime import datetime
from typing import Annotated

import headrace as hr

system = hr.System("shop")


@system.stream(id="order_id", key="customer", time="at")
class Order:
    """An order at one of the shop's tills."""

    order_id: int
    at: datetime
    customer: str
    till: int
    amount: Annotated[float, hr.Range(min=0)]


@system.stream(id="order_id", key="order_id", time="at")
class Complaint:
    """A complaint about an order, some time after it."""

    order_id: int
    at: datetime


judged = system.join(Order, Complaint, on="order_id")
customer = system.windows(
    Order, by="customer", over=["1d", "7d"], own_event=True, count=hr.count(), mean_amount=hr.mean("amount")
)
till = system.windows(judged, by="till", over=["3d"], delay="1d", count=hr.count(), risk=hr.share(Complaint))


@system.model(features=["amount", customer, till], label=hr.label(Complaint, on="order_id", within="2d"))
def trouble(rows, labels):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(random_state=0)).fit(rows, labels)


scoring = system.service(
    trouble, request=Order, appends=Order, name="scoring", release=hr.shadow("1h") >> hr.canary(50, 100, each="1h")
)
system.watch(scoring, retrain_when=hr.psi > 0.2, at_most="1/day", window="1d", train_on="8d", holdout="3d")
'''

FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
TURN = 12
"""From this day on the cheap orders are complained about, before it the dear ones."""
DAYS = 25
ORDERS_A_DAY = 120
CUSTOMERS, TILLS = 500, 6
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def write_system(folder: Path) -> Path:
    file = folder / "shop.py"
    file.write_text(SYSTEM)
    return file


def day(number: float) -> datetime:
    return FIRST_DAY + number * DAY


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


Event = dict[str, Any]


def orders(seed: int, first_id: int, start: datetime, end: datetime, number: int, dearer: float = 1.0) -> list[Event]:
    """`number` orders between two moments, in order of time; whole seconds, so that some share one."""
    draw = random.Random(seed)
    seconds = sorted(draw.randrange(int((end - start).total_seconds())) for _ in range(number))
    return [
        {
            "order_id": first_id + place,
            "at": text(start + timedelta(seconds=second)),
            "customer": f"c{draw.randrange(CUSTOMERS)}",
            "till": draw.randrange(TILLS),
            "amount": round(draw.uniform(1, 100) * dearer, 2),
        }
        for place, second in enumerate(seconds)
    ]


def complaints(seed: int, of: Iterable[Event], until: datetime) -> list[Event]:
    """Complaints about orders, those before `until`."""
    draw = random.Random(seed)
    found = []
    for order in of:
        at = datetime.fromisoformat(order["at"])
        cheap = order["amount"] < 50
        if draw.random() < (0.6 if cheap == (at >= day(TURN)) else 0.05):
            complained = at + timedelta(seconds=draw.randrange(36 * 3600))
            if complained < until:
                found.append({"order_id": order["order_id"], "at": text(complained)})
    return sorted(found, key=lambda complaint: complaint["at"])


def lines(events: Iterable[Event]) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


@dataclass(frozen=True)
class Applied:
    """An event of the history: its offset and its fields, the time in microseconds."""

    offset: int
    at: int
    fields: Event


class Windows:
    """The window features of `SYSTEM`, written as one would explain them; nothing of headrace is used."""

    def __init__(self, orders: Iterable[Applied], complaints: Iterable[Applied]) -> None:
        self._of_customer: dict[str, list[Applied]] = defaultdict(list)
        self._of_till: dict[int, list[Applied]] = defaultdict(list)
        self._complaints: dict[int, list[Applied]] = defaultdict(list)
        self._offset: dict[int, int] = {}
        for order in orders:
            self._of_customer[order.fields["customer"]].append(order)
            self._of_till[order.fields["till"]].append(order)
            self._offset[order.fields["order_id"]] = order.offset
        for complaint in complaints:
            self._complaints[complaint.fields["order_id"]].append(complaint)

    def features(
        self, asked: Mapping[str, Any], at: int, positions: Mapping[str, Mapping[str, int]]
    ) -> dict[str, float | None]:
        """The features of an order asked about at `at`, as of the last applied offsets `{view: {stream: offset}}`."""
        found: dict[str, float | None] = {"amount": asked["amount"]}
        upto = positions["customer"]["order"]
        own = self._offset.get(asked["order_id"], upto + 1)
        for name, length in (("1d", 1), ("7d", 7)):
            amounts = [
                order.fields["amount"]
                for order in self._of_customer[asked["customer"]]
                if at - length * DAY // MICROSECOND < order.at <= at
                and order.offset <= upto
                and order.fields["order_id"] != asked["order_id"]
                and (own > upto or (order.at, order.offset) < (at, own))
            ] + [asked["amount"]]
            found[f"customer_count_{name}"] = len(amounts)
            found[f"customer_mean_amount_{name}"] = sum(amounts) / len(amounts)
        till = positions["till"]
        window = [
            order
            for order in self._of_till[asked["till"]]
            if at - 4 * DAY // MICROSECOND < order.at <= at - DAY // MICROSECOND and order.offset <= till["order"]
        ]
        known = [order for order in window if self._complained(order, at, till["complaint"])]
        found["till_count_3d"] = len(window)
        found["till_risk_3d"] = len(known) / len(window) if window else 0.0
        return found

    def _complained(self, order: Applied, at: int, upto: int) -> bool:
        return any(c.at <= at and c.offset <= upto for c in self._complaints[order.fields["order_id"]])
