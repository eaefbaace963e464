"""The records of the release room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.kernel.times import duration

RolloutState = Literal["warming", "shadow", "canary", "probation", "promoted", "rolled_back", "held"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a release plan; durations are microseconds of the event clock."""

    state: Literal["shadow", "canary", "probation"]
    weight: float
    duration: int


class Plan(tuple[Step, ...]):
    """Steps in order; `shadow("1h") >> canary(5, 25, 100) >> probation("7d")`."""

    __slots__ = ()

    def __rshift__(self, other: Plan) -> Plan:
        return Plan((*self, *other))


def shadow(for_: str) -> Plan:
    """The challenger scores every request in the background for this long (event clock)."""
    return Plan((Step("shadow", 0.0, duration(for_)),))


def canary(*percent: float, each: str = "1d") -> Plan:
    """The challenger answers this share of the entities, step by step, each for at least this long."""
    return Plan(tuple(Step("canary", p / 100, duration(each)) for p in percent))


def probation(for_: str) -> Plan:
    """The challenger answers everything; the old champion shadows until labels mature, then it is judged."""
    return Plan((Step("probation", 1.0, duration(for_)),))


@dataclass(frozen=True, slots=True)
class Policy:
    """How a rollout is judged. `alpha`: false-alarm probability over all guards; `minimum_requests`: per arm before a
    step may be left; `margin`: largest tolerated extra error rate; `score_tolerance`: largest tolerated mean difference
    of scores in [0, 1]; `loss_margin`: largest tolerated extra log loss in probation; `approve`: `auto` or `person`."""

    steps: tuple[Step, ...]
    alpha: float = 0.01
    minimum_requests: int = 100
    margin: float = 0.05
    score_tolerance: float = 0.1
    loss_margin: float = 0.02
    approve: Literal["auto", "person"] = "auto"


@dataclass(frozen=True, slots=True)
class Guard:
    name: str
    e: float
    threshold: float
    verdict: Literal["ok", "hold", "roll_back"]


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    at: str
    from_: str
    to: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as every door shows it (INTERFACE.md); `champion` and `challenger` are registry versions."""

    id: str
    service: str
    state: RolloutState
    champion: int | None
    challenger: int
    weight: float
    salt: str
    requests: dict[str, int]
    guards: list[Guard] = field(default_factory=list)
    events: list[RolloutEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a service answered with from event time `at` on, until the next generation."""

    service: str
    generation: int
    at: str
    champion: int | None
    challenger: int | None
    weight: float
    salt: str
    shadows: list[int]
    rollout: str | None
    by: str
    reason: str
