"""Entries of compute children: jobs that need the whole system."""

from __future__ import annotations

from typing import Any

from headrace.app.world import context
from headrace.system import retraining

__all__ = ["context", "retrain"]


def retrain(arguments: dict[str, Any]) -> str:
    """Compute job: run or resume the retraining named `retraining`; returns its final state."""
    return retraining.run_job(context(arguments), arguments["retraining"])
