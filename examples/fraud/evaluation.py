"""How the publication trains and judges its models (Le Borgne et al., Fraud Detection Handbook, 2022, chapters 3 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.statistics.metrics import average_precision, roc_auc

if TYPE_CHECKING:
    import polars as pl

DAY = np.timedelta64(1, "D")
DELAY = 8 * DAY
"""On test day d the frauds up to day d - 8 are known: they are reported 7 days after the payment."""


def standardised(estimator: Any) -> Any:
    """A scikit-learn Pipeline: features of mean 0 and variance 1, then `estimator`."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def on_known_good_cards(history: pl.DataFrame, test: pl.DataFrame) -> dict[str, float]:
    """The published figures: the test payments of customers not yet known to be defrauded.

    `history` are all payments with their `label` since the start of the training week, `test` those of the test week
    with their `score`.
    """
    day, customer, label = _columns(test)
    score = test["score"].to_numpy()
    past_day, past_customer, past_label = _columns(history)
    known = np.zeros(len(test), bool)
    for d in np.unique(day):
        defrauded = np.unique(past_customer[past_label & (past_day <= d - DELAY)])
        known |= (day == d) & np.isin(customer, defrauded)
    good = ~known
    return {
        "auc_roc": roc_auc(label[good], score[good]),
        "average_precision": average_precision(label[good], score[good]),
        "card_precision_at_100": card_precision(day[good], customer[good], label[good], score[good], 100),
    }


def card_precision(day: np.ndarray, customer: np.ndarray, label: np.ndarray, score: np.ndarray, k: int) -> float:
    """Per day, the share of frauds among the `k` customers with the highest scores (the maximum over their payments);
    a customer found so on an earlier day is left out. The mean over the days. Arrays are [n].
    """
    found = np.array([], customer.dtype)
    precisions = []
    for d in np.unique(day):
        today = (day == d) & ~np.isin(customer, found)
        cards, place = np.unique(customer[today], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, place, score[today])
        defrauded = np.zeros(len(cards), bool)
        np.logical_or.at(defrauded, place, label[today])
        top = np.argsort(-highest, kind="stable")[:k]
        found = np.concatenate([found, cards[top][defrauded[top]]])
        precisions.append(defrauded[top].sum() / k)
    return float(np.mean(precisions))


def _columns(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Day, customer and label of every row."""
    at = frame["at"].dt.replace_time_zone(None).to_numpy()
    return at.astype("datetime64[D]"), frame["customer_id"].to_numpy(), frame["label"].to_numpy().astype(bool)
