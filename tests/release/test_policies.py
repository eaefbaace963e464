from __future__ import annotations

import pytest
from release_world import service

from headrace.kernel.errors import InvalidInput
from headrace.kernel.times import DAY, HOUR
from headrace.release.policies import declared_policy, parse_policy
from headrace.release.types import Step


def test_the_declared_plan_is_the_policy() -> None:
    steps = declared_policy(service()).steps
    assert [(s.state, s.weight) for s in steps] == [
        ("shadow", 0.0), ("canary", 0.05), ("canary", 0.25), ("canary", 1.0), ("probation", 1.0),
    ]  # fmt: skip
    assert steps[0].duration == HOUR and steps[-1].duration == 8 * DAY


def test_a_policy_file_names_steps_as_the_declaration_does() -> None:
    policy = parse_policy(
        {"steps": [{"shadow": "1h"}, {"canary": [1, 50], "each": "2h"}, {"canary": 100}], "alpha": 0.05, "approve": "person"},
        service(),
    )
    assert policy.steps == (
        Step("shadow", 0.0, HOUR), Step("canary", 0.01, 2 * HOUR), Step("canary", 0.5, 2 * HOUR), Step("canary", 1.0, DAY)
    )  # fmt: skip
    assert (policy.alpha, policy.approve, policy.minimum_requests) == (0.05, "person", 100)
    assert parse_policy({"alpha": 0.02}, service()).steps == declared_policy(service()).steps


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stepz": []}, "unknown policy field `stepz`"),
        ({"steps": []}, "it has no steps"),
        ({"steps": [{"canary": [50, 5]}]}, "percentages rise"),
        ({"steps": [{"canary": 0}]}, "percentages rise"),
        ({"steps": [{"canary": 101}]}, "percentages rise"),
        ({"steps": [{"canary": 5}, {"shadow": "1h"}]}, "at most one shadow, then canaries"),
        ({"steps": [{"shadow": "soon"}]}, "is no step of a rollout"),
        ({"steps": [{"canary": 5, "for": "1d"}]}, "is no step of a rollout"),
        ({"steps": "all"}, "is no step of a rollout"),
        ({"alpha": 2}, "alpha, margin"),
        ({"alpha": "small"}, "the policy is wrong"),
        ({"approve": "nobody"}, "the policy is wrong"),
        ({"minimum_requests": 0}, "minimum_requests is at least 1"),
    ],
)
def test_a_wrong_policy_gets_one_clear_message(given: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput) as found:
        parse_policy(given, service())
    assert says in found.value.message
    assert found.value.hint
