"""A small declared system for the tests of the release room: payments scored by a tree, with late fraud reports."""

from __future__ import annotations

from datetime import datetime

import headrace as hr
from headrace.serving.types import ServiceSpec


def system() -> hr.System:
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

    @declared.model(features=["amount"], label=hr.label(Report, on="tx_id", within="7d"))
    def fraud(rows: object, labels: object) -> object:
        raise NotImplementedError

    plan = hr.shadow("1h") >> hr.canary(5, 25, 100) >> hr.probation("8d")
    service = declared.service(fraud, request=Payment, name="scoring", p99="20ms", release=plan)
    declared.watch(service, retrain_when=hr.psi > 0.2)
    return declared


def service() -> ServiceSpec:
    return system().specs().get(ServiceSpec, "scoring")
