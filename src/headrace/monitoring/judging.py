"""From figures to alarms: effect size and significance, and what is broken rather than drifted."""

from __future__ import annotations

from typing import Literal

from headrace.kernel.times import DAY, format_time
from headrace.monitoring.alarms import alarm_id
from headrace.monitoring.types import Alarm, DriftFigure, DriftReport, WatchSpec
from headrace.statistics.divergences import benjamini_hochberg, homogeneity_p_value

MONTH = 30 * DAY
FEWEST_ROWS = 200
"""Below this a window is not judged: PSI of deciles has a bias of about 9/n."""
NULL_SHARE, NULL_RATIO, NULL_RISE = 0.05, 3.0, 0.2
"""A flood of nulls: at least 5 % and three times the reference's share, or 20 points above it."""
ERROR_SHARE = 0.05


def level(watch: WatchSpec) -> float:
    """The chance of a false alarm that one window may spend, over all its features, so that the expected number in 30
    days is at most the budget."""
    return min(0.05, watch.false_alarms_per_month * watch.every / MONTH)


def judge(watch: WatchSpec, system: str, report: DriftReport, at: int) -> list[Alarm]:
    """The alarms of one window. Broken data is told instead of drift: it must not lead to a retraining. Drift is judged
    on complete windows only.

    A feature alarms when its statistic exceeds the trigger's threshold and its p-value passes Benjamini and Hochberg's
    procedure at `level` over all figures: without any drift, the chance of any alarm is at most that.
    """
    if report.rows < FEWEST_ROWS:
        return []
    broken = _broken(watch, system, report, at)
    if broken or not report.complete:
        return broken
    significant = benjamini_hochberg([f.p_value for f in report.figures], level(watch))
    statistic, threshold = watch.retrain_when.statistic, watch.retrain_when.threshold
    over = []
    for figure, passed in zip(report.figures, significant, strict=True):
        value = figure.js if statistic == "js" else figure.psi
        counts = statistic != "drift_score" or figure.feature != "score"
        if passed and counts and value > threshold:
            over.append(_alarm(system, report, at, "drift", figure, (statistic, value, threshold)))
    if statistic == "drift_score":
        return sorted(over, key=lambda alarm: -alarm.value)[:1]
    return over


def _broken(watch: WatchSpec, system: str, report: DriftReport, at: int) -> list[Alarm]:
    found = []
    for f in report.figures:
        usual = max(NULL_SHARE, NULL_RATIO * f.reference_null_share)
        if f.null_share >= usual or f.null_share > f.reference_null_share + NULL_RISE:
            found.append(_alarm(system, report, at, "broken_data", f, ("null_share", f.null_share, usual)))
    share = report.errors / report.rows
    if share > ERROR_SHARE:
        allowed = round(report.rows * ERROR_SHARE)
        p = homogeneity_p_value([report.rows - allowed, allowed], [report.rows - report.errors, report.errors])
        if p < level(watch):
            figure = DriftFigure("errors", 0.0, 0.0, p, 0.0, 0.0)
            found.append(_alarm(system, report, at, "broken_data", figure, ("error_share", share, ERROR_SHARE)))
    return found


def _alarm(
    system: str, report: DriftReport, at: int, kind: Literal["drift", "broken_data"], figure: DriftFigure,
    measured: tuple[str, float, float],
) -> Alarm:  # fmt: skip
    statistic, value, threshold = measured
    return Alarm(
        alarm_id(system, report.service, kind, figure.feature, at), report.service, format_time(at), report.window_from, kind,
        figure.feature, statistic, value, threshold, figure.p_value, report.version,
    )  # fmt: skip
