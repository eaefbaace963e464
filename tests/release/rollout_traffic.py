"""Simulated rollouts: Zipf 1.1 entities, a daily cycle of load and of errors, and clients that loop on an error."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from headrace.release.guards import Answers, GuardState, observe_answers, verdicts
from headrace.release.types import Policy

STEPS = (0.05, 0.25, 0.5)
POLICY = Policy(())


def buckets(salt: str, entities: int) -> np.ndarray:
    """The bucket in [0, 1) of the entities "0", "1", ...: the router's formula in INTERFACE.md."""
    prefix = salt.encode() + b"\0"
    digests = b"".join(hashlib.blake2b(prefix + str(e).encode(), digest_size=8).digest() for e in range(entities))
    return np.frombuffer(digests, ">u8").astype(float) / 2**64


@dataclass
class Traffic:
    """Requests in order, before any version is chosen. `looped` marks retries by a client whose request just failed."""

    entity: np.ndarray
    unlucky: np.ndarray
    slow: np.ndarray
    score: np.ndarray


def traffic(rng: np.random.Generator, entities: int, requests: int, rate: float) -> Traffic:
    """`unlucky` requests fail whichever version answers: `rate` on average, three times as often at noon as at night;
    a client in five repeats a failed request up to 60 times at once."""
    popularity = np.arange(1, entities + 1) ** -1.1
    entity = rng.choice(entities, requests, p=popularity / popularity.sum())
    noon = 1 + 0.5 * np.sin(np.linspace(0, 6 * math.pi, requests))
    unlucky = rng.random(requests) < rate * noon
    loops = np.where(unlucky & (entity % 5 == 0), rng.integers(2, 61, requests), 1)
    entity, unlucky = np.repeat(entity, loops), np.repeat(unlucky, loops)
    return Traffic(entity, unlucky, rng.random(len(entity)) < 0.01, rng.beta(1, 20, len(entity)))


def arms(salt: str, entities: int, entity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which requests the challenger answers, over equally long steps, and the weight at each."""
    weight = np.repeat(STEPS, -(-len(entity) // len(STEPS)))[: len(entity)]
    return buckets(salt, entities)[entity] < weight, weight


@dataclass
class Outcome:
    """`spent` canary entities, and `rolled_back` by which guards when it ended."""

    rolled_back: list[str]
    held: bool
    safe: bool
    spent: int


def run(salt: str, entities: int, log: Traffic, error: np.ndarray, *, at_once: int = 10_000) -> Outcome:
    """Feed a rollout to the guards in pieces of `at_once` requests until one rolls it back."""
    state, bits = GuardState(), np.zeros(entities, np.uint8)
    challenger, weight = arms(salt, entities, log.entity)
    found, end = verdicts(state, POLICY), 0
    for w in STEPS:
        rows = np.flatnonzero(weight == w)
        for begin in range(rows[0], rows[-1] + 1, at_once):
            end = min(begin + at_once, rows[-1] + 1)
            part = slice(begin, end)
            score = np.where(error[part], np.nan, log.score[part])
            answers = Answers(log.entity[part], challenger[part], error[part], log.slow[part], score)
            observe_answers(state, bits, log.entity[part], answers, w, POLICY)
            found = verdicts(state, POLICY)
            if any(g.verdict == "roll_back" for g in found):
                spent = len(np.unique(log.entity[:end][challenger[:end]]))
                return Outcome([g.name for g in found if g.verdict == "roll_back"], False, False, spent)
    held = any(g.verdict == "hold" for g in found[:-1])
    return Outcome([], held, found[-1].verdict == "ok", len(np.unique(log.entity[challenger])))


def null_rollout(index: int) -> tuple[Outcome, bool]:
    """A rollout of a challenger that behaves like the champion: what the guards did, and whether a z-test repeated
    every 200 canary requests at 5 % would have rolled it back."""
    rng = np.random.default_rng([17, index])
    log = traffic(rng, 1500, 6000, 0.01)
    salt = f"null-{index}"
    outcome = run(salt, 1500, log, log.unlucky)
    return outcome, repeated_z_test(*arms(salt, 1500, log.entity), log.unlucky)


def repeated_z_test(challenger: np.ndarray, weight: np.ndarray, error: np.ndarray) -> bool:
    """One-sided two-proportion z-test on requests, looked at every 200 canary requests of a step."""
    for w in STEPS:
        here = weight == w
        canary, failed = challenger[here], error[here]
        n, x = np.cumsum(canary), np.cumsum(failed & canary)
        m, y = np.cumsum(~canary), np.cumsum(failed & ~canary)
        looks = np.searchsorted(n, np.arange(200, n[-1] + 1, 200))
        n, x, m, y = n[looks], x[looks], m[looks], y[looks]
        pooled = (x + y) / (n + m)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / np.maximum(m, 1)))
        if np.any((spread > 0) & ((x / n - y / np.maximum(m, 1)) > 1.6449 * spread)):
            return True
    return False
