"""The router against the formula of INTERFACE.md: deterministic, monotone, uniform, independent between salts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.kernel.ids import key_text
from headrace.serving.router import bucket, is_challengers

texts = st.text(max_size=20)
weights = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("salt", "entity", "place"),
    [
        # int.from_bytes(hashlib.blake2b(salt.encode() + b"\0" + key.encode(), digest_size=8).digest(), "big") / 2**64
        ("r1", "42", 0.8847163889298277),
        ("r2", "42", 0.5791176019083482),
        ("", "ann", 0.2477464149325846),
    ],
)
def test_golden_places(salt: str, entity: str, place: float) -> None:
    assert bucket(salt, entity) == place


@given(texts, texts, weights, weights)
@settings(deadline=None, max_examples=100)
def test_raising_the_weight_only_adds_entities(salt: str, entity: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert not is_challengers(salt, entity, low) or is_challengers(salt, entity, high)
    assert not is_challengers(salt, entity, 0.0)
    assert is_challengers(salt, entity, 1.0)


def test_an_entity_at_the_weight_stays_with_the_champion() -> None:
    assert not is_challengers("r1", "42", bucket("r1", "42"))
    assert is_challengers("r1", "42", np.nextafter(bucket("r1", "42"), 1.0))


def test_another_process_decides_the_same() -> None:
    code = "from headrace.serving.router import bucket; print([bucket('r', str(i)) for i in range(50)])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == str([bucket("r", str(i)) for i in range(50)])


def test_places_are_uniform_and_independent_between_rollouts() -> None:
    first = np.array([bucket("rollout-1", str(i)) for i in range(20_000)])
    second = np.array([bucket("rollout-2", str(i)) for i in range(20_000)])
    joint, _, _ = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])
    statistic = float(((joint - 200) ** 2 / 200).sum())
    assert statistic < 148.2  # the 99.9 % quantile of chi-square with 99 degrees of freedom


def test_a_tuple_key_is_compact_json() -> None:
    assert key_text((1, "a")) == '[1,"a"]'
