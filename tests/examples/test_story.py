"""The fraud story at a third of its size: told twice it is the same; without the shift, or the watch, nothing happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FRAUD = Path(__file__).parents[2] / "examples" / "fraud"
PAYMENTS = 150_000
VARIES = {"seconds", "p50_ms", "p99_ms", "peak_rss_mb", "values_stale", "max_staleness_s", "canary_entities", "spoilt_requests"}
TELL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import story, report
print(json.dumps(report.report(story.main(payments=int(sys.argv[2]), seed=3, shift=sys.argv[3] == "shift"))))
"""


def told(folder: Path, shift: bool) -> dict[str, Any]:
    """The report of a story told by the example in `folder`."""
    arguments = [sys.executable, "-c", TELL, str(folder), str(PAYMENTS), "shift" if shift else "quiet"]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=1_000)
    assert answer.returncode == 0, answer.stderr[-5000:]
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def steady(value: Any) -> Any:
    """The report without the figures that may differ from run to run."""
    if isinstance(value, dict):
        return {name: steady(inner) for name, inner in value.items() if name not in VARIES}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return told(FRAUD, shift=True)


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_the_story_ends_as_it_should(report: dict[str, Any]) -> None:
    assert report["payments"] == PAYMENTS
    assert report["quarantined"] == 50
    assert report["redelivered"] == 200
    assert report["backfill"]["rows"] == PAYMENTS
    assert report["published"] is None
    assert report["champion"]["parity_max_difference"] <= 1e-5
    assert report["predictions"]["count"] >= 20_000
    assert report["predictions"]["failed"] == 0
    assert report["parity"]["values_different"] == 0
    assert report["parity"]["values_compared"] >= 15 * report["predictions"]["count"]
    assert report["drift"]["alarms_before_shift"] == 0
    assert report["drift"]["first_alarm_at"] > report["drift"]["shift_started_at"]
    assert report["retrained"] == {"dataset_version": report["retrained"]["dataset_version"], "version": 2}
    assert [(r["version"], r["outcome"]) for r in report["rollouts"]] == [(2, "promoted"), (3, "rolled_back")]
    assert 0 < report["rollouts"][1]["spoilt_requests"] < 60
    assert report["ledger"]["verified"]


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_the_same_seed_gives_the_same_report(report: dict[str, Any]) -> None:
    assert steady(told(FRAUD, shift=True)) == steady(report)


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_without_the_shift_nothing_happens() -> None:
    found = told(FRAUD, shift=False)
    assert found["drift"]["first_alarm_at"] is None
    assert found["drift"]["alarms_before_shift"] == 0
    assert found["retrained"] is None
    assert found["rollouts"] == []


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_without_the_watch_nothing_happens(tmp_path: Path) -> None:
    folder = tmp_path / "fraud"
    shutil.copytree(FRAUD, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "system.py").read_text()
    watched = [line for line in text.splitlines() if line.startswith("system.watch(")]
    assert len(watched) == 1
    (folder / "system.py").write_text(text.replace(watched[0], ""))
    found = told(folder, shift=True)
    assert found["drift"]["first_alarm_at"] is None
    assert found["retrained"] is None
    assert found["rollouts"] == []
