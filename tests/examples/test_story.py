"""The fraud story with its figures, through the public door: `story.main` is what `headrace demo` calls."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fraud_modules import FOLDER, fraud

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "fraud" / "transactions.parquet"
ENOUGH = 150_000
"""Payments with which a retrained version is promoted."""
BACKFILLED, FEATURES = 14, 15
"""The `amount` is in the request as it is, and is not computed."""
KEYS = {
    "payments": int, "quarantined": int, "redelivered": int, "published": (dict, type(None)), "retrained": (dict, type(None)),
    "backfill": {"rows": int, "features": int, "seconds": float},
    "champion": {"version": int, "average_precision": float, "engine": str, "parity_max_difference": float},
    "predictions": {"count": int, "failed": int, "p50_ms": float, "p99_ms": float},
    "parity": {"values_compared": int, "values_different": int, "values_stale": int, "max_staleness_s": float},
    "drift": {"shift_started_at": str, "first_alarm_at": (str, type(None)), "alarms_before_shift": int},
    "rollouts": list, "ledger": {"leaves": int, "verified": bool}, "seconds": float, "peak_rss_mb": int,
}  # fmt: skip
"""The report's keys, as issue 2 names them, and the type of each value."""
ROLLOUT = {"version": int, "outcome": str, "canary_entities": int, "spoilt_requests": int}
OF_THE_MACHINE = ("backfill.seconds", "predictions.p50_ms", "predictions.p99_ms", "parity.values_stale",
                  "parity.max_staleness_s", "seconds", "peak_rss_mb")  # fmt: skip


def tell(**given: Any) -> dict[str, Any]:
    """The report of a story, as `--report` writes it."""
    report: dict[str, Any] = json.loads(json.dumps(fraud("report").report(fraud("story").main(**given))))
    return report


def check_shape(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Exactly the wanted keys, and a value of the wanted type behind each."""
    assert list(found) == [key for key in found if key in wanted] and set(found) == set(wanted)
    for key, kind in wanted.items():
        if isinstance(kind, dict):
            check_shape(found[key], kind)
        else:
            assert isinstance(found[key], kind) and (kind is not int or not isinstance(found[key], bool)), key


def check_answers(report: dict[str, Any], predictions: int) -> None:
    """What holds for every story: nothing failed, nothing differed, everything is proved."""
    check_shape(report, KEYS)
    assert (report["quarantined"], report["redelivered"]) == (50, 200)
    assert (report["backfill"]["rows"], report["backfill"]["features"]) == (report["payments"], BACKFILLED)
    assert report["champion"]["version"] == 1
    assert report["champion"]["engine"] == "onnx"
    assert report["champion"]["parity_max_difference"] < 1e-6
    assert (report["predictions"]["count"], report["predictions"]["failed"]) == (predictions, 0)
    assert 0 < report["predictions"]["p50_ms"] <= report["predictions"]["p99_ms"]
    assert report["parity"]["values_compared"] == predictions * FEATURES
    assert report["parity"]["values_different"] == 0
    assert report["ledger"]["verified"]
    assert report["ledger"]["leaves"] > 20
    assert report["drift"]["alarms_before_shift"] == 0


@pytest.mark.slow
def test_a_short_story_has_every_figure_of_the_report() -> None:
    report = tell(payments=30_000, days=2)
    replayed = fraud("generator").generate(30_000)
    days = fraud("plan").plan(replayed["at"].min(), replayed["at"].max())
    start = days.start.replace(tzinfo=None)
    asked = replayed["at"].dt.replace_time_zone(None).is_between(start, start + timedelta(days=2), closed="left").sum()
    check_answers(report, asked)
    assert report["payments"] == 30_000
    assert report["published"] is None, "the payments are generated"
    assert report["drift"]["first_alarm_at"] is None
    assert (report["retrained"], report["rollouts"]) == (None, [])


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return tell(payments=ENOUGH)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shift_is_seen_and_a_successor_is_promoted_and_a_sabotaged_one_rolled_back(whole: dict[str, Any]) -> None:
    assert whole["predictions"]["count"] >= 20_000
    check_answers(whole, whole["predictions"]["count"])
    seen = datetime.fromisoformat(whole["drift"]["first_alarm_at"]) - datetime.fromisoformat(whole["drift"]["shift_started_at"])
    assert timedelta(0) < seen <= timedelta(days=7)
    assert whole["retrained"] == {"dataset_version": "boosting@1", "version": 2}
    for rollout in whole["rollouts"]:
        check_shape(rollout, ROLLOUT)
    promoted, sabotaged = whole["rollouts"]
    assert (promoted["version"], promoted["outcome"]) == (2, "promoted")
    assert (sabotaged["version"], sabotaged["outcome"]) == (3, "rolled_back")
    assert promoted["canary_entities"] > 100
    assert promoted["spoilt_requests"] == 0
    assert 0 < sabotaged["spoilt_requests"] < 60


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_stories_with_one_seed_give_the_same_report(whole: dict[str, Any]) -> None:
    assert determined(tell(payments=ENOUGH)) == determined(whole)


def determined(report: dict[str, Any]) -> dict[str, Any]:
    """The report without what depends on the machine, and on which customers the router draws."""
    flat = {key: value for key, value in report.items() if not isinstance(value, dict)}
    flat |= {f"{k}.{name}": value for k, v in report.items() if isinstance(v, dict) for name, value in v.items()}
    flat["rollouts"] = [(rollout["version"], rollout["outcome"]) for rollout in report["rollouts"]]
    return {key: value for key, value in flat.items() if key not in OF_THE_MACHINE}


def check_nothing_happened(report: dict[str, Any]) -> None:
    check_answers(report, report["predictions"]["count"])
    assert report["drift"]["first_alarm_at"] is None
    assert (report["retrained"], report["rollouts"]) == (None, [])


LONG_ENOUGH = 25
"""Days after which, with the shift and the watch, a retrained version is on its way."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_the_shift_nothing_happens(whole: dict[str, Any]) -> None:
    calm = tell(payments=ENOUGH, shift=False, days=LONG_ENOUGH)
    check_nothing_happened(calm)
    assert calm["champion"] == whole["champion"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_the_watch_the_shift_has_no_consequence(tmp_path: Path) -> None:
    example = shutil.copytree(FOLDER, tmp_path / "fraud", ignore=shutil.ignore_patterns("__pycache__"))
    lines = (example / "system.py").read_text().splitlines(keepends=True)
    watching = [line for line in lines if line.startswith("system.watch(")]
    assert len(watching) == 1 and watching[0].rstrip().endswith(")"), "the watch is one line"
    (example / "system.py").write_text("".join(line for line in lines if line not in watching))
    check_nothing_happened(tell(payments=ENOUGH, system=example / "system.py", days=LONG_ENOUGH))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_published_features_and_figures_are_reproduced() -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published payments are not at {PUBLISHED}")
    report = tell(transactions=PUBLISHED, days=1)
    check_answers(report, 750)
    published, table = report["published"], fraud("published").RESULTS
    assert published["rows_compared"] > 10_000
    assert published["rows_different"] <= published["rows_compared"] * 0.001, "each has a payment in the same second"
    figures = {row.pop("model"): tuple(row.values()) for row in published["models"]}
    assert list(published["models"][0]) == ["auc_roc", "average_precision", "card_precision_at_100"]
    for model in ("logistic", "tree", "forest"):
        assert figures[model] == pytest.approx(table[model], abs=0.005), model
    assert set(table) < set(figures)
