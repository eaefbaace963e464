"""The records of the monitoring room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.kernel.times import DAY


@dataclass(frozen=True, slots=True)
class Trigger:
    """`hr.psi > 0.2`: retrain when the statistic of any feature, or of the score, exceeds the threshold."""

    statistic: Literal["psi", "js", "drift_score"]
    threshold: float


@dataclass(frozen=True, slots=True)
class Statistic:
    """`psi`, `js`, `drift_score` (the largest PSI over features); compare it with a number to get a Trigger."""

    name: Literal["psi", "js", "drift_score"]

    def __gt__(self, threshold: float) -> Trigger:
        return Trigger(self.name, float(threshold))


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """Watches a service. `window`: microseconds of asking time that one drift figure covers, evaluated at every
    `every`; `at_most` = (number, microseconds); `train_on`: microseconds of asking time with mature labels that a
    retraining uses, of which the last `holdout` judges challenger against champion; `retrain_after`: how long after the
    alarm it is done, so that the labels of what has changed are among them."""

    name: str
    service: str
    retrain_when: Trigger
    at_most: tuple[int, int] = (1, DAY)
    approve: Literal["auto", "person"] = "auto"
    window: int = 7 * DAY
    every: int = DAY
    train_on: int = 14 * DAY
    holdout: int = 3 * DAY
    retrain_after: int = 0
    false_alarms_per_month: float = 0.5
    where: str = ""
    kind: Literal["watch"] = "watch"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm: significance and effect size both passed. `at` is event time."""

    id: str
    service: str
    at: str
    window_from: str
    kind: Literal["drift", "decay", "broken_data"]
    feature: str
    statistic: str
    value: float
    threshold: float
    p_value: float
    version: int


@dataclass(frozen=True, slots=True)
class DriftFigure:
    """One feature, or `score`, in a window against the version's reference, both on at most ten merged bins and NaN.

    `p_value`: Pearson's chi-squared test of equal distributions, which takes requests as independent."""

    feature: str
    psi: float
    js: float
    p_value: float
    null_share: float
    reference_null_share: float


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The drift of one version over the asking days of a window; `rows` are live answers, `errors` failures among them.
    `complete`: the version gave most of the answers on every day of the window."""

    service: str
    version: int
    window_from: str
    window_to: str
    complete: bool
    rows: int
    errors: int
    figures: list[DriftFigure]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger against champion on the same rows. Differences are challenger - champion, [low, high] the 95 % intervals
    of a paired bootstrap by key."""

    service: str
    champion: int
    challenger: int
    rows: int
    positives: int
    average_precision: dict[str, float]
    log_loss: dict[str, float]
    passed: bool
    reason: str


psi = Statistic("psi")
"""Population stability index of each feature and of the score, natural logarithm."""
js = Statistic("js")
"""Jensen-Shannon divergence, base 2, in [0, 1]."""
drift_score = Statistic("drift_score")
"""The largest PSI over all features: the guide's `drift_score > 0.2`."""
