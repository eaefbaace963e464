"""The soak of `benchmarks/soak.py`, smaller: late events, random questions, own events sent twice; not one value differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"
EVENTS, PREDICTIONS, FEATURES = 100_000, 10_000, 15


@pytest.mark.slow
def test_no_logged_value_differs_after_a_soak() -> None:
    command = [sys.executable, SCRIPT, "--events", str(EVENTS), "--predictions", str(PREDICTIONS), "--days", "20", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout)
    assert ended.returncode == 0, found
    assert 0.09 * EVENTS < found["late"] < 0.11 * EVENTS
    assert (found["questions"], found["failed"], found["quarantined"]) == (PREDICTIONS, 0, 0), found["first_failures"]
    assert 0.99 * PREDICTIONS < found["predictions"] <= PREDICTIONS, "a payment that is asked twice is one prediction"
    assert found["accepted"] == found["expected"] > EVENTS + PREDICTIONS // 2
    assert found["redelivered"] > PREDICTIONS // 3, "payments that were asked about and have come by the stream too"
    assert found["values_compared"] == found["predictions"] * FEATURES
    assert (found["values_different"], found["differences"]) == (0, [])
