from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import headrace as hr
from headrace.kernel.times import DAY
from headrace.monitoring.judging import judge, level
from headrace.monitoring.types import DriftFigure, DriftReport, WatchSpec
from headrace.statistics.divergences import coarsened, homogeneity_p_value, js, psi
from headrace.statistics.histograms import bin_counts, quantile_edges

WATCH = WatchSpec("w", "scoring", hr.psi > 0.2)


def report(*figures: DriftFigure, rows: int = 1000, errors: int = 0) -> DriftReport:
    return DriftReport("scoring", 3, "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z", True, rows, errors, list(figures))


def figure(feature: str, psi: float, p: float, js: float = 0.0, null: float = 0.0, usual: float = 0.0) -> DriftFigure:
    return DriftFigure(feature, psi, js, p, null, usual)


def alarmed(watch: WatchSpec, found: DriftReport) -> list[tuple[str, str]]:
    return [(a.kind, a.feature) for a in judge(watch, "bank", found, 7 * DAY)]


def test_an_alarm_needs_effect_and_significance() -> None:
    figures = [figure("large", 0.5, 1e-9), figure("chance", 0.5, 0.2), figure("small", 0.1, 1e-9), figure("at", 0.2, 1e-9)]
    (alarm,) = judge(WATCH, "bank", report(*figures), 7 * DAY)
    assert (alarm.kind, alarm.feature, alarm.statistic, alarm.value, alarm.version) == ("drift", "large", "psi", 0.5, 3)
    assert alarm.at == "1970-01-08T00:00:00Z" and alarm.window_from == "2026-01-01T00:00:00Z"
    assert alarmed(WATCH, report(*figures, rows=100)) == [], "too few rows to judge"


def test_the_trigger_names_the_statistic() -> None:
    figures = [figure("a", 0.3, 1e-9, js=0.01), figure("score", 0.9, 1e-9, js=0.2), figure("b", 0.5, 1e-9, js=0.02)]
    assert alarmed(replace(WATCH, retrain_when=hr.js > 0.1), report(*figures)) == [("drift", "score")]
    assert alarmed(replace(WATCH, retrain_when=hr.drift_score > 0.2), report(*figures)) == [("drift", "b")], "of the features"


def test_broken_data_is_told_instead_of_drift() -> None:
    drifted = figure("amount", 0.9, 1e-12)
    assert alarmed(WATCH, report(drifted, figure("mean", 3.0, 1e-12, null=0.3))) == [("broken_data", "mean")]
    assert alarmed(WATCH, report(drifted, figure("mean", 0.0, 1, null=0.1, usual=0.09))) == [("drift", "amount")]
    assert alarmed(WATCH, report(drifted, figure("mean", 0.0, 1, null=0.65, usual=0.4))) == [("broken_data", "mean")]
    assert alarmed(WATCH, report(drifted, errors=300)) == [("broken_data", "errors")]
    assert alarmed(WATCH, report(drifted, errors=51)) == [("drift", "amount")], "51 of 1,000 is not surely above 5 %"


def test_the_level_of_a_window_is_its_share_of_the_monthly_budget() -> None:
    assert level(WATCH) == pytest.approx(0.5 / 30)
    assert level(replace(WATCH, every=DAY // 24)) == pytest.approx(0.5 / 720)


def test_a_year_of_windows_without_drift_keep_the_budget_even_without_an_effect_size() -> None:
    """360 daily windows of 17 figures at any PSI: 0.5 false windows a month are allowed, 6 in all."""
    rng = np.random.default_rng(7)
    reference = rng.normal(size=5_000)
    edges = quantile_edges(reference)
    counts = bin_counts(reference, edges)
    watch = replace(WATCH, retrain_when=hr.psi > 0.0)
    fired = 0
    for _ in range(360):
        figures = []
        for name in range(17):
            left, right = coarsened(counts, bin_counts(rng.choice(reference, 400), edges))
            figures.append(DriftFigure(str(name), psi(left, right), js(left, right), homogeneity_p_value(left, right), 0, 0))
        fired += bool(judge(watch, "bank", report(*figures), DAY))
    assert fired <= 6 + 3 * 6**0.5
