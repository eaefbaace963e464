"""What the publication did and found (Fraud Detection Handbook, 2022): its split and its table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

TRAIN_FROM = datetime(2018, 7, 25, tzinfo=UTC)
TRAIN_DAYS, DELAY_DAYS, TEST_DAYS = 7, 7, 7
TRAIN_TO = TRAIN_FROM + timedelta(days=TRAIN_DAYS)
TEST_FROM = TRAIN_TO + timedelta(days=DELAY_DAYS)
"""The labels of the training week are known by then."""
TEST_TO = TEST_FROM + timedelta(days=TEST_DAYS)
TEST_KNOWN = TEST_TO + timedelta(days=DELAY_DAYS)

FIGURES = ("auc_roc", "average_precision", "card_precision_at_100")
RESULTS = {
    "logistic": (0.871, 0.606, 0.291),
    "tree": (0.763, 0.496, 0.241),
    "forest": (0.867, 0.658, 0.287),
    "boosting": (0.862, 0.639, 0.273),
}
"""FIGURES of each model with its library's defaults; the boosting was XGBoost's."""
PAYMENTS = 1_754_155
"""Rows of the published file."""
