"""The policy of a rollout: from the service's declared release plan, or from a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import msgspec

from headrace.kernel.errors import HeadraceError, InvalidInput
from headrace.release.types import Plan, Policy, Step, canary, probation, shadow
from headrace.serving.types import ServiceSpec

DEFAULT_PLAN = shadow("1h") >> canary(5, 25, 100)
"""Released like this where the service declares no `release=`."""
ORDER = {"shadow": 0, "canary": 1, "probation": 2}


def declared_policy(service: ServiceSpec) -> Policy:
    """The policy of the service's `release=`."""
    return checked(Policy(tuple(service.release or DEFAULT_PLAN)))


def parse_policy(given: Mapping[str, Any], service: ServiceSpec) -> Policy:
    """A policy from JSON: the fields of Policy, all optional; `steps` as `[{"shadow": "1h"}, {"canary": [5, 25, 100],
    "each": "1d"}, {"probation": "7d"}]`, the service's plan when absent. InvalidInput names what is wrong."""
    known = [f.name for f in fields(Policy)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(f"unknown policy field `{unknown[0]}`; known: {', '.join(known)}",
                           hint="remove it or mend its name", field=unknown[0])  # fmt: skip
    values = dict(given)
    steps = values.pop("steps", None)
    plan = tuple(service.release or DEFAULT_PLAN) if steps is None else _plan(steps)
    try:
        return checked(msgspec.convert({**values, "steps": plan}, Policy))
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the policy is wrong: {error}", hint="mend that value", field="policy") from None


def _plan(steps: Any) -> tuple[Step, ...]:
    plan = Plan()
    for step in steps if isinstance(steps, Sequence) and not isinstance(steps, str) else [steps]:
        try:
            match step:
                case {"shadow": str(time), **rest} if not rest:
                    plan = plan >> shadow(time)
                case {"probation": str(time), **rest} if not rest:
                    plan = plan >> probation(time)
                case {"canary": percent, **rest} if set(rest) <= {"each"}:
                    shares = percent if isinstance(percent, list) else [percent]
                    plan = plan >> canary(*map(float, shares), each=str(rest.get("each", "1d")))
                case _:
                    raise ValueError(step)
        except (HeadraceError, ValueError, TypeError):
            raise InvalidInput(
                f'`{step!r}` is no step of a rollout; allowed: {{"shadow": "1h"}}, {{"canary": [5, 25, 100], "each": "1d"}}, '
                '{"probation": "7d"}',
                hint="percentages are numbers, durations are such as `1d`", field="steps",
            ) from None  # fmt: skip
    return plan


def checked(policy: Policy) -> Policy:
    """`policy` when it can be followed, else InvalidInput."""
    order = [ORDER[s.state] for s in policy.steps]
    weights = [s.weight for s in policy.steps if s.state == "canary"]
    wrong = None
    if not order:
        wrong = "it has no steps"
    elif order != sorted(order) or order.count(0) > 1 or order.count(2) > 1:
        wrong = "steps are at most one shadow, then canaries, then at most one probation"
    elif any(not 0 < w <= 1 for w in weights) or any(b <= a for a, b in pairwise(weights)):
        wrong = "canary percentages rise, above 0 and at most 100"
    elif not 0 < policy.alpha < 1 or not 0 < policy.margin < 1 or not 0 < policy.score_tolerance < 1:
        wrong = "alpha, margin and score_tolerance lie between 0 and 1"
    elif policy.minimum_requests < 1 or policy.loss_margin < 0:
        wrong = "minimum_requests is at least 1, loss_margin at least 0"
    if wrong:
        raise InvalidInput(f"the policy cannot be followed: {wrong}", hint="mend it", field="policy")
    return policy
