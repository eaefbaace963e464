"""The steps of a release as the user's file has them: what is wrong in one names its line."""

from __future__ import annotations

from headrace.release import types
from headrace.release.types import Plan
from headrace.system.places import declared_at, standing_at


def shadow(for_: str) -> Plan:
    """The challenger scores every request in the background for this long (event clock)."""
    with standing_at(declared_at()):
        return types.shadow(for_)


def canary(*percent: float, each: str = "1d") -> Plan:
    """The challenger answers this share of the entities, step by step, each for at least this long."""
    with standing_at(declared_at()):
        return types.canary(*percent, each=each)


def probation(for_: str) -> Plan:
    """The challenger answers everything; the old champion shadows until labels mature, then it is judged."""
    with standing_at(declared_at()):
        return types.probation(for_)
