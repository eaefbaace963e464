"""From the prediction log to the guards: which arm answered, which requests both versions scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby, islice

import numpy as np
from sqlalchemy import Connection, select

from headrace.engines.context import Context
from headrace.kernel.ids import key_hash
from headrace.release.guards import Answers, Pairs, observe_answers, observe_pairs
from headrace.release.store import Evidence, State
from headrace.release.tables import rollout_entities
from headrace.serving.reading import prediction_records
from headrace.serving.router import bucket
from headrace.serving.types import PredictionRecord, ServiceSpec

PENDING = 4096
"""Live answers that wait for their shadow; the oldest are given up: a dropped shadow is no evidence."""
BASELINE_RECORDS = 5000
BASELINE_ENOUGH = 200
SLOWER = 1.2
"""An answer is slow when it took this much longer than 99 % of the champion's; a declared p99 is always allowed."""
FLOOR_US = 1000
"""Answers below a millisecond are never slow."""

Routes = Mapping[int, tuple[int | None, float]]


Answer = tuple[int, bool, bool, bool, float]
"""entity, whether the challenger answered, error, slow, score."""
Pair = tuple[int, bool, bool, float]
"""entity, the challenger's error, the champion's error, difference of the scores."""


def slow_above(ctx: Context, service: ServiceSpec, before: int) -> int | None:
    """Microseconds above which an answer is slow, from the champion's latencies just before offset `before` of the log;
    None when there are too few."""
    tail = prediction_records(ctx, service.name, max(0, before - BASELINE_RECORDS))
    latencies = [r.latency_us for o, r in tail if o < before and r.role == "champion" and r.error is None]
    if len(latencies) < BASELINE_ENOUGH:
        return None
    return max(round(SLOWER * float(np.quantile(latencies, 0.99))), service.p99 or 0, FLOOR_US)


def bits_of(connection: Connection, rollout: str, entities: Iterable[int]) -> dict[int, int]:
    """What the entities have counted for; those not there for nothing."""
    wanted = iter(entities)
    found: dict[int, int] = {}
    while part := list(islice(wanted, 500)):
        query = select(rollout_entities.c.entity, rollout_entities.c.bits).where(
            (rollout_entities.c.rollout == rollout) & rollout_entities.c.entity.in_(part)
        )
        found.update({row.entity: row.bits for row in connection.execute(query)})
    return found


def save_bits(connection: Connection, system: str, rollout: str, old: Mapping[int, int], new: Mapping[int, int]) -> None:
    """Write the bits that changed."""
    table = rollout_entities
    added = [{"system": system, "rollout": rollout, "entity": e, "bits": b} for e, b in new.items() if b and not old.get(e, 0)]
    if added:
        connection.execute(table.insert(), added)
    for entity, bits in new.items():
        if old.get(entity, 0) not in (0, bits):
            mine = (table.c.rollout == rollout) & (table.c.entity == entity)
            connection.execute(table.update().where(mine).values(bits=bits))


def entities_of(state: State, service: ServiceSpec, records: Iterable[PredictionRecord]) -> set[int]:
    """The key hashes of the entities that may count."""
    return {key_hash(r.entity) for r in records if r.rollout == state.id and _counts(service, r)}


def observe(state: State, service: ServiceSpec, routes: Routes, records: list[PredictionRecord], bits: dict[int, int]) -> None:
    """Count `records`, in log order, in the evidence and in `bits`. Those of other rollouts do not count."""
    for generation, group in groupby(records, key=lambda r: r.generation):
        mine = [r for r in group if r.rollout == state.id]
        if not mine or generation not in routes:
            continue
        step, weight = routes[generation]
        if step is None or step < 0:
            continue
        here = step == state.step
        if here:
            state.evidence.counted_at = max(state.evidence.counted_at, *(record.at for record in mine))
        if 0 < weight < 1:
            _answers(state, service, mine, weight, bits, here)
        else:
            _pairs(state, service, mine, weight, bits, here)


def _counts(service: ServiceSpec, record: PredictionRecord) -> bool:
    """Requests without an entity do not count where the service has one: their versions are not sticky."""
    return record.sticky or service.key is None


def _spend(evidence: Evidence, record: PredictionRecord, *, challenger: bool) -> None:
    if challenger:
        evidence.challenger += 1
        evidence.spoilt += record.error is not None
    else:
        evidence.champion += 1


def _number(score: float | None) -> float:
    return math.nan if score is None else score


def _answers(
    state: State, service: ServiceSpec, records: list[PredictionRecord], weight: float, bits: dict[int, int], here: bool
) -> None:
    evidence = state.evidence
    rows: list[Answer] = []
    for record in records:
        challenger = record.role == "canary"
        if record.role == "shadow" or (not challenger and bucket(state.id, record.entity) < weight):
            continue  # the champion's answer to a request that the challenger failed
        _spend(evidence, record, challenger=challenger)
        evidence.here_challenger += here and challenger
        evidence.here_champion += here and not challenger
        if _counts(service, record):
            failed = record.error is not None
            slow = not failed and evidence.slow_above is not None and record.latency_us > evidence.slow_above
            rows.append((key_hash(record.entity), challenger, failed, slow, math.nan if failed else _number(record.score)))
    if rows:
        entity, challenger_, error, slow_, score = (np.array(column) for column in zip(*rows, strict=True))
        with _bits(bits, entity) as (known, inverse):
            answers = Answers(entity, challenger_, error, slow_, score)
            observe_answers(evidence.guards, known, inverse, answers, weight, state.policy)


def _pairs(
    state: State, service: ServiceSpec, records: list[PredictionRecord], weight: float, bits: dict[int, int], here: bool
) -> None:
    evidence = state.evidence
    live_role, shadow_version = ("champion", state.challenger) if weight == 0 else ("canary", state.champion)
    rows: list[Pair] = []
    for record in records:
        failed = record.error is not None
        if record.role == live_role:
            _spend(evidence, record, challenger=weight == 1)
            evidence.pending[record.id] = (failed, record.score)
            continue
        if record.role != "shadow" or record.version != shadow_version or record.id not in evidence.pending:
            continue
        live_failed, live_score = evidence.pending.pop(record.id)
        evidence.here_challenger += here
        evidence.here_champion += here
        if _counts(service, record):
            difference = math.nan if live_failed or failed else _number(record.score) - _number(live_score)
            by_arm = (failed, live_failed) if weight == 0 else (live_failed, failed)
            rows.append((key_hash(record.entity), *by_arm, difference))
    for identifier in list(evidence.pending)[:-PENDING]:
        del evidence.pending[identifier]
    if rows:
        entity, challenger, champion, differences = (np.array(column) for column in zip(*rows, strict=True))
        with _bits(bits, entity) as (known, inverse):
            observe_pairs(evidence.guards, known, inverse, Pairs(entity, challenger, champion, differences), state.policy)


@contextmanager
def _bits(bits: dict[int, int], entity: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The entities' bits as an array to be changed, with the row of each; written back on leaving."""
    distinct, inverse = np.unique(entity, return_inverse=True)
    known = np.array([bits.get(e, 0) for e in distinct.tolist()], np.uint8)
    yield known, inverse
    bits.update(zip(distinct.tolist(), known.tolist(), strict=True))
