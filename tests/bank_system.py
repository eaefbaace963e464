"""What the declared systems of several rooms' tests have in common: payments by cards, with late fraud reports."""

from __future__ import annotations

from datetime import datetime

import headrace as hr


def bank() -> tuple[hr.System, type, type]:
    """The system `bank`, its streams `payment` and `report`; what is made of them is the caller's."""
    declared = hr.System("bank")

    @declared.stream(id="tx_id", key="card", time="at")
    class Payment:
        tx_id: int
        at: datetime
        card: int
        amount: float

    @declared.stream(id="tx_id", key="tx_id", time="at")
    class Report:
        tx_id: int
        at: datetime

    declared.join(Payment, Report, on="tx_id")
    return declared, Payment, Report
