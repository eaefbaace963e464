"""The guards of a rollout: evidence from requests, in pure arithmetic on arrays in the order of the log.

The unit is the entity. It counts once per guard in the whole rollout: at its first error, its first slow answer, its
first appearance. The salt of the rollout makes its bucket independent of all it did before, so that while challenger
and champion behave alike the event falls to the challenger with probability `weight`, whatever the traffic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.release.types import Guard, Policy
from headrace.statistics.confidence import BETS, log_capitals, log_mean_capital
from headrace.statistics.eprocess import e_value, log_excess_e_value, log_ratio_e_value, running_log_e

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]

SEEN, ERRED, SLOW, BY_CHAMPION, BY_CHALLENGER, PAIRED = 1, 2, 4, 8, 16, 32
"""What an entity has already counted for; the last three mark its first answer by each arm, and by both."""
PAIRED_WEIGHT = 0.5
"""Where both versions score the same request, an error of only one of them is as likely either's."""
GUARDS = 4
WAITING = 64


class Tally(msgspec.Struct):
    """One e-process: finished segments' evidence, the open segment, and the highest log e ever reached."""

    weight: float = 0.0
    hits: int = 0
    total: int = 0
    log_e_before: float = 0.0
    log_e_max: float = 0.0

    def count(self, hits: Bools, weight: float, *, two_sided: bool = False) -> None:
        """Count events in order; another weight than before opens a new segment."""
        if not hits.size:
            return
        if weight != self.weight:
            if self.total:
                log_e_value = log_ratio_e_value if two_sided else log_excess_e_value
                self.log_e_before += float(log_e_value(self.hits, self.total, self.weight))
            self.weight, self.hits, self.total = weight, 0, 0
        path = self.log_e_before + running_log_e(hits, weight, before=(self.hits, self.total), two_sided=two_sided)
        self.hits += int(hits.sum())
        self.total += len(hits)
        self.log_e_max = max(self.log_e_max, float(path.max()))


def _no_capital() -> list[float]:
    return [0.0] * len(BETS)


class GuardState(msgspec.Struct):
    """All that the guards remember besides the entities' bits. JSON by msgspec.

    `higher` and `lower` bet that the challenger's scores differ by more than the tolerance, `safe` that its error rate
    exceeds the champion's by less than the margin. `waiting` are first answers (error, score) of one arm, the champion's
    or the challenger's, that wait for one of the other arm to be compared with: the newest first.
    """

    errors: Tally = msgspec.field(default_factory=Tally)
    latency: Tally = msgspec.field(default_factory=Tally)
    sample_ratio: Tally = msgspec.field(default_factory=Tally)
    higher: list[float] = msgspec.field(default_factory=_no_capital)
    lower: list[float] = msgspec.field(default_factory=_no_capital)
    scores_log_e_max: float = 0.0
    safe: list[float] = msgspec.field(default_factory=_no_capital)
    waiting: list[tuple[bool, float | None]] = msgspec.field(default_factory=list)
    waiting_for_champion: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """Live answers of both arms, in log order: `entity` int64 [n], `challenger` who answered (or failed), `slow` above
    the champion's earlier p99, `score` NaN for an error."""

    entity: Ints
    challenger: Bools
    error: Bools
    slow: Bools
    score: Floats


@dataclass(frozen=True, slots=True)
class Pairs:
    """Requests that both versions scored, one of them as a shadow: `difference` of the scores, NaN when one failed."""

    entity: Ints
    challenger_error: Bools
    champion_error: Bools
    difference: Floats


def _first(mask: Bools, inverse: Ints, bits: Bits, bit: int) -> Ints:
    """Rows of `mask` that are the first of their entity in this batch and in the rollout; marks them in `bits`."""
    candidates = np.flatnonzero(mask & ((bits[inverse] & bit) == 0))
    rows: Ints = np.sort(candidates[np.unique(inverse[candidates], return_index=True)[1]])
    bits[inverse[rows]] |= bit
    return rows


def _bet_on_scores(state: GuardState, differences: Floats, tolerance: float, *, both: bool) -> None:
    known = differences[~np.isnan(differences)]
    if not known.size:
        return
    higher = log_capitals(known, tolerance, state.higher)
    lower = log_capitals(-known, tolerance, state.lower) if both else np.tile(state.lower, (len(known), 1))
    path = np.logaddexp(log_mean_capital(higher), log_mean_capital(lower)) - math.log(2)
    state.scores_log_e_max = max(state.scores_log_e_max, float(path.max()))
    state.higher, state.lower = higher[-1].tolist(), lower[-1].tolist()


def _bet_on_safety(state: GuardState, differences: Floats, margin: float) -> None:
    if differences.size:
        state.safe = log_capitals(-differences, -margin, state.safe)[-1].tolist()


def observe_answers(state: GuardState, bits: Bits, inverse: Ints, answers: Answers, weight: float, policy: Policy) -> None:
    """Count answers of a canary step, 0 < weight < 1. `bits` [entities] is updated; `inverse` [n] indexes it."""
    everything = np.ones(len(inverse), bool)
    seen = _first(everything, inverse, bits, SEEN)
    state.sample_ratio.count(answers.challenger[seen], weight, two_sided=True)
    state.errors.count(answers.challenger[_first(answers.error, inverse, bits, ERRED)], weight)
    state.latency.count(answers.challenger[_first(answers.slow, inverse, bits, SLOW)], weight)
    by_champion = _first(~answers.challenger, inverse, bits, BY_CHAMPION)
    by_challenger = _first(answers.challenger, inverse, bits, BY_CHALLENGER)
    errors, scores = _matched(state, answers, np.sort(np.concatenate([by_champion, by_challenger])))
    _bet_on_safety(state, errors, policy.margin)
    _bet_on_scores(state, scores, policy.score_tolerance, both=True)


def _matched(state: GuardState, answers: Answers, rows: Ints) -> tuple[Floats, Floats]:
    """Differences challenger - champion (errors, scores) of first answers, each matched with the newest one of the other
    arm that waits. Which two meet does not depend on what they were, so that the differences are fair bets."""
    errors: list[float] = []
    scores: list[float] = []
    columns = (answers.challenger[rows].tolist(), answers.error[rows].tolist(), answers.score[rows].tolist())
    for challenger, error, score in zip(*columns, strict=True):
        if not state.waiting or state.waiting_for_champion == challenger:
            state.waiting_for_champion = challenger
            state.waiting.append((error, None if math.isnan(score) else score))
            del state.waiting[:-WAITING]
            continue
        other_error, other_score = state.waiting.pop()
        sign = 1 if challenger else -1
        errors.append(sign * (float(error) - float(other_error)))
        scores.append(math.nan if other_score is None else sign * (score - other_score))
    return np.array(errors), np.array(scores)


def observe_pairs(state: GuardState, bits: Bits, inverse: Ints, pairs: Pairs, policy: Policy) -> None:
    """Count requests that both versions scored: in the shadow step, at weight 1 and in probation."""
    one_failed = pairs.challenger_error ^ pairs.champion_error
    state.errors.count(pairs.challenger_error[_first(one_failed, inverse, bits, ERRED)], PAIRED_WEIGHT)
    rows = _first(np.ones(len(inverse), bool), inverse, bits, PAIRED)
    errors = pairs.challenger_error[rows].astype(float) - pairs.champion_error[rows].astype(float)
    _bet_on_safety(state, errors, policy.margin)
    _bet_on_scores(state, np.abs(pairs.difference[rows]), policy.score_tolerance, both=False)


def verdicts(state: GuardState, policy: Policy) -> list[Guard]:
    """Every guard with its evidence. Roll back at e >= guards / alpha: the chance of a false alarm of any of them at any
    look is at most alpha (Ville, Bonferroni). `non_inferiority` is the other way round: hold until e >= 1 / alpha shows
    that the challenger's error rate is less than `margin` above the champion's.
    """
    threshold = GUARDS / policy.alpha
    judged: list[tuple[str, float, Literal["hold", "roll_back"]]] = [
        ("errors", state.errors.log_e_max, "roll_back"),
        ("latency", state.latency.log_e_max, "roll_back"),
        ("sample_ratio", state.sample_ratio.log_e_max, "roll_back"),
        ("predictions", state.scores_log_e_max, "hold"),
    ]
    found = [
        Guard(name, e_value(log_e), threshold, action if log_e >= math.log(threshold) else "ok")
        for name, log_e, action in judged
    ]
    safe = float(log_mean_capital(state.safe))
    shown: Literal["ok", "hold"] = "ok" if safe >= math.log(1 / policy.alpha) else "hold"
    return [*found, Guard("non_inferiority", e_value(safe), 1 / policy.alpha, shown)]
