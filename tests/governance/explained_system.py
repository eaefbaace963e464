"""A shop whose visits are scored: the smallest system with a service, a window, a delayed window and late labels."""

from datetime import datetime

import headrace as hr

system = hr.System("shop")


@system.stream(id="visit_id", key="customer", time="at")
class Visit:
    visit_id: int
    at: datetime
    customer: str
    page: int


@system.stream(id="visit_id", key="visit_id", time="at")
class Purchase:
    visit_id: int
    at: datetime


joined = system.join(Visit, Purchase, on="visit_id")
recent = system.windows(Visit, by="customer", over=["1d"], own_event=True, count=hr.count())
on_page = system.windows(joined, by="page", over=["7d"], delay="1d", share=hr.share(Purchase))


@system.model(features=["page", recent, on_page], label=hr.label(Purchase, on="visit_id", within="1d"))
def buys(rows, labels):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(rows, labels)


service = system.service(buys, request=Visit, name="scoring")
