"""A shop: which visits end in a purchase? Its models are those that training and registry tests need."""

from datetime import datetime

import headrace as hr

system = hr.System("shop")


@system.stream(id="visit_id", key="customer", time="at")
class Visit:
    visit_id: int
    at: datetime
    customer: str
    pages: int
    amount: float | None
    opened_at: int


@system.stream(id="visit_id", key="visit_id", time="at")
class Purchase:
    visit_id: int
    at: datetime


def evaluated(history, test):
    return {
        "history_rows": float(len(history)),
        "test_rows": float(len(test)),
        "mean_score": test["score"].mean(),
        "scored": float(history["score"].count()),
        "labelled": float(history["label"].sum()),
    }


recent = system.windows(Visit, by="customer", over=["1d"], own_event=True, count=hr.count(), amount=hr.mean("amount"))
pages = system.windows(
    Visit, by="customer", over=["1h", "1d"], name="past", own_event=True, count=hr.count(), depth=hr.mean("pages")
)
bought = hr.label(Purchase, on="visit_id", within="1d")
spine = system.join(Visit, Purchase, on="visit_id")
plain = system.model(features=["pages", "amount", recent], label=bought, evaluate=evaluated)
complete = system.model(features=["pages", pages], label=bought)


@system.model(
    features=["pages", "amount", recent], label=bought, evaluate=evaluated,
    search={"num_leaves": (3, 40), "learning_rate": (0.01, 0.3), "boost": ["gbdt", "dart"]},
)  # fmt: skip
def boosting(rows, labels, *, num_leaves=15, learning_rate=0.1, boost="gbdt"):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=20, num_leaves=num_leaves, learning_rate=learning_rate, boosting_type=boost, n_jobs=1, verbose=-1
    ).fit(rows, labels)


@system.model(features=["opened_at", "pages"], label=bought)
def by_time(rows, labels):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=50, n_jobs=1, verbose=-1, min_child_samples=3).fit(rows, labels)


@complete
def linear(rows, labels):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)


@complete
def forest(rows, labels):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=10)).fit(rows, labels)


@plain
def with_gaps(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier().fit(rows, labels)


@plain
def forgetful(rows, labels):
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit(rows[:, :1], labels)


@plain
def broken(rows, labels):
    raise ZeroDivisionError("the trainer gave up")
