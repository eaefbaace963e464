"""Card fraud: the whole system in one file."""

from datetime import datetime
from typing import Annotated

import evaluation

import headrace as hr
from headrace.features.calendar import hour, weekday

system = hr.System("fraud")


@system.stream(id="tx_id", key="customer_id", time="at")
class Transaction:
    """A card payment, as it arrives. It carries no label."""

    tx_id: int
    at: datetime
    customer_id: int
    terminal_id: int
    amount: Annotated[float, hr.Range(min=0)]


@system.stream(id="tx_id", key="tx_id", time="at")
class FraudReport:
    """Arrives 7 days after the payment."""

    tx_id: int
    at: datetime


labelled = system.join(Transaction, FraudReport, on="tx_id")
days = ["1d", "7d", "30d"]
customer = system.windows(
    Transaction, by="customer_id", over=days, own_event=True, count=hr.count(), mean_amount=hr.mean("amount")
)
terminal = system.windows(
    labelled, by="terminal_id", over=days, delay="7d", count=hr.count(), risk=hr.share(FraudReport)
)


@system.features
def calendar(at):
    return {"during_weekend": weekday(at) >= 5, "during_night": hour(at) <= 6}


fraud_model = system.model(
    features=["amount", calendar, customer, terminal],
    label=hr.label(FraudReport, on="tx_id", within="7d"),
    evaluate=evaluation.on_known_good_cards,
)


@fraud_model
def logistic(rows, labels):
    from sklearn.linear_model import LogisticRegression

    return evaluation.standardised(LogisticRegression(random_state=0)).fit(rows, labels)


@fraud_model
def tree(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return evaluation.standardised(DecisionTreeClassifier(max_depth=2, random_state=0)).fit(rows, labels)


@fraud_model
def forest(rows, labels):
    from sklearn.ensemble import RandomForestClassifier

    return evaluation.standardised(RandomForestClassifier(random_state=0)).fit(rows, labels)


@system.model(
    features=["amount", calendar, customer, terminal],
    label=hr.label(FraudReport, on="tx_id", within="7d"),
    search={"num_leaves": (7, 63), "learning_rate": (0.01, 0.2), "min_child_samples": (5, 100)},
    evaluate=evaluation.on_known_good_cards,
)
def boosting(rows, labels, *, num_leaves=31, learning_rate=0.1, min_child_samples=20):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        num_leaves=num_leaves, learning_rate=learning_rate, min_child_samples=min_child_samples,
        random_state=0, n_jobs=1, verbose=-1,
    ).fit(rows, labels)  # fmt: skip


scoring = system.service(
    boosting, request=Transaction, name="scoring", p99="20ms",
    release=hr.shadow("1d") >> hr.canary(5, 25, 100, each="1d") >> hr.probation("8d"),
)  # fmt: skip
system.watch(scoring, retrain_when=hr.psi > 0.2, at_most="1/30d", approve="auto")
