"""Card fraud: the whole system in one file."""

from datetime import datetime
from typing import Annotated

from evaluation import on_known_good_cards, standardised

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
class FraudReport:  # it arrives 7 days after the payment: that is declared, not hidden
    tx_id: int
    at: datetime


labelled = system.join(Transaction, FraudReport, on="tx_id")
payments = {"over": ["1d", "7d", "30d"], "count": hr.count()}
customer = system.windows(Transaction, by="customer_id", own_event=True, **payments, mean_amount=hr.mean("amount"))
terminal = system.windows(labelled, by="terminal_id", delay="7d", **payments, risk=hr.share(FraudReport))


@system.features
def calendar(at):
    return {"during_weekend": weekday(at) >= 5, "during_night": hour(at) <= 6}


fraud = {
    "features": ["amount", calendar, customer, terminal],
    "label": hr.label(FraudReport, on="tx_id", within="7d"),
    "evaluate": on_known_good_cards,
}


@system.model(**fraud)
def logistic(rows, labels):
    from sklearn.linear_model import LogisticRegression

    return standardised(LogisticRegression(random_state=0)).fit(rows, labels)


@system.model(**fraud)
def tree(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return standardised(DecisionTreeClassifier(max_depth=2, random_state=0)).fit(rows, labels)


@system.model(**fraud)
def forest(rows, labels):
    from sklearn.ensemble import RandomForestClassifier

    return standardised(RandomForestClassifier(random_state=0)).fit(rows, labels)


@system.model(**fraud, search={"num_leaves": (7, 31), "learning_rate": (0.02, 0.1), "min_child_samples": (20, 200)})
def boosting(rows, labels, *, num_leaves=15, learning_rate=0.05, min_child_samples=50):
    from lightgbm import LGBMClassifier

    size = {"num_leaves": num_leaves, "min_child_samples": min_child_samples}
    return LGBMClassifier(learning_rate=learning_rate, **size, random_state=0, n_jobs=1, verbose=-1).fit(rows, labels)


release = hr.shadow("1d") >> hr.canary(5, 25, 100, each="1d") >> hr.probation("8d")
scoring = system.service(boosting, request=Transaction, name="scoring", p99="20ms", release=release)
system.watch(scoring, retrain_when=hr.psi > 0.2, at_most="1/30d", retrain_after="9d", train_on="10d", approve="auto")
