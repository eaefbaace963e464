"""The days of the story, at the publication's distance from the first day of the data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import published

from headrace.kernel.errors import InvalidInput

DAY = timedelta(days=1)
BEFORE_TRAINING = published.TRAIN_FROM - datetime(2018, 4, 1, tzinfo=UTC)
QUIET_DAYS = 8
"""Replayed days before the customers begin to spend more: long enough for a full window of the watch."""
LONGEST_REPLAY = 40


@dataclass(frozen=True)
class Plan:
    """`start` is when the labels of the test week are known: the champion is chosen, and the replay begins."""

    first: datetime
    end: datetime
    longest: int = LONGEST_REPLAY

    @property
    def train_from(self) -> datetime:
        return self.first + BEFORE_TRAINING

    @property
    def train_to(self) -> datetime:
        return self.train_from + published.TRAIN_DAYS * DAY

    @property
    def test_from(self) -> datetime:
        return self.train_to + published.DELAY_DAYS * DAY

    @property
    def test_to(self) -> datetime:
        return self.test_from + published.TEST_DAYS * DAY

    @property
    def start(self) -> datetime:
        return self.test_to + published.DELAY_DAYS * DAY

    @property
    def shift(self) -> datetime:
        return self.start + QUIET_DAYS * DAY

    @property
    def days(self) -> int:
        """The longest replay that the data allow."""
        return min((self.end - self.start) // DAY, self.longest)


def plan(first: datetime, last: datetime, *, longest: int = LONGEST_REPLAY) -> Plan:
    """The plan for payments from `first` to `last`. InvalidInput when they do not reach far enough."""
    found = Plan(_midnight(first), _midnight(last) + DAY, longest)
    needed = found.start + 30 * DAY
    if found.end < needed:
        raise InvalidInput(
            f"the story needs payments of {(needed - found.first).days} days, these are of {(found.end - found.first).days}",
            hint="give a file of a longer time",
        )
    return found


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
