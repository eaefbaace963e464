"""Loading a registered version into the serving process: verified, warmed on its golden rows, then eligible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from headrace.engines.context import Context
from headrace.features.arriving import check_built
from headrace.features.online import FeatureReader
from headrace.features.types import Ask, FeatureRow
from headrace.kernel.errors import CheckFailed, HeadraceError, InvalidInput
from headrace.kernel.log import LOG
from headrace.registry.declarations import definition_of_facts
from headrace.registry.runtimes import Runtime, load_runtime
from headrace.registry.types import ModelVersion
from headrace.registry.versions import version
from headrace.serving.types import ServiceSpec

TOLERANCE = 1e-6
"""Golden scores were computed by the same artifact, perhaps on another processor."""
PROBES = (2, 3, 5, 8, 16, 32)

Scored = tuple[float | None, str | None]
"""A score in [0, 1], or why there is none."""


class Histogram(msgspec.Struct, frozen=True):
    """A reference histogram as the registry stores it."""

    edges: list[float]
    counts: list[int]


class Reference(msgspec.Struct, frozen=True):
    """The registry's reference of a version: the training rows, by feature, and their scores."""

    features: dict[str, Histogram]
    score: Histogram | None = None


class Golden(msgspec.Struct, frozen=True):
    """Real rows in the version's feature order (null is NaN) and the scores of the compiled artifact."""

    rows: list[list[float | None]]
    scores: list[float | None]


class Features(Protocol):
    """`features.online.FeatureReader`."""

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow | HeadraceError]: ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """The features that a version reads: two of the same `meaning` read the same values of a request."""

    columns: tuple[str, ...]
    meaning: str
    reader: Features


@dataclass(frozen=True, slots=True, eq=False)
class LoadedVersion:
    """A version ready to serve. `independent`: scoring rows together gives each the bits that it gets alone."""

    number: int
    runtime: Runtime
    inputs: Inputs
    reference: Reference | None = None
    independent: bool = False

    def score(self, rows: list[np.ndarray]) -> list[Scored]:
        """The scores of feature rows of the version; together in one call only where that changes no bit."""
        if not rows:
            return []
        if len(rows) == 1:
            return self._score(rows[0].reshape(1, -1))
        if self.independent:
            together = self._score(np.array(rows))
            if all(error is None for _, error in together):
                return together
        return [self._score(row.reshape(1, -1))[0] for row in rows]

    def _score(self, matrix: np.ndarray) -> list[Scored]:
        try:
            scores = self.runtime.score(matrix).tolist()
        except HeadraceError as error:  # (it is logged and answered)
            return [(None, error.message[:500])] * len(matrix)
        return [(s, None) if 0.0 <= s <= 1.0 else (None, f"the score {s} is outside [0, 1]") for s in scores]


def check_golden(number: int, runtime: Runtime, golden: Golden) -> bool:
    """Score the golden rows, together and one by one, which also warms the model. CheckFailed when a score differs
    from the registered one; returns whether rows scored together get the bits that they get alone."""
    rows = np.array([[np.nan if v is None else v for v in row] for row in golden.rows], dtype=np.float64)
    expected = np.array([np.nan if s is None else s for s in golden.scores], dtype=np.float64)
    if not len(rows):
        raise InvalidInput(f"version {number} has no golden rows", hint="register it again")
    alone = np.concatenate([runtime.score(rows[i : i + 1]) for i in range(len(rows))])
    wrong = np.flatnonzero(~np.isclose(alone, expected, rtol=0.0, atol=TOLERANCE, equal_nan=True))
    if wrong.size:
        at = int(wrong[0])
        raise CheckFailed(
            f"version {number} gives {alone[at]!r} for golden row {at}, registered was {expected[at]!r}",
            hint="the artifact or the runtime has changed; register the model again",
        )
    return all(
        np.array_equal(runtime.score(rows[start : start + size]), alone[start : start + size], equal_nan=True)
        for size in PROBES
        for start in range(0, len(rows) - size + 1, size)
    )


def load_version(ctx: Context, spec: ServiceSpec, number: int) -> LoadedVersion:
    """Read version `number` of the service's model from the registry, verify and warm it. It reads its features by the
    definitions that it was trained on, which the file need not have any more.

    Raises InvalidInput when its definitions are nowhere, NotReady while the online state of one of them is being built.
    """
    facts = version(ctx, spec.model.name, number)
    runtime = load_runtime(facts.engine, ctx.blobs.get(ctx.system, facts.artifact))
    golden = msgspec.json.decode(ctx.blobs.get(ctx.system, facts.golden), type=Golden)
    independent = check_golden(number, runtime, golden)
    return LoadedVersion(number, runtime, _inputs(ctx, spec, facts), _reference(ctx, facts), independent)


def _inputs(ctx: Context, spec: ServiceSpec, facts: ModelVersion) -> Inputs:
    found = definition_of_facts(ctx, facts)
    check_built(ctx, found.features.views)
    reader = FeatureReader(ctx.online, ctx.namespace, found.features, ctx.specs, asking=spec.request_stream)
    return Inputs(found.features.columns, found.meaning, reader)


def _reference(ctx: Context, facts: ModelVersion) -> Reference:
    return msgspec.json.decode(ctx.blobs.get(ctx.system, facts.reference), type=Reference)


class Counted(NamedTuple):
    """What the records of a version are counted by: the names of its features in order, its reference."""

    names: Sequence[str]
    reference: Reference


def counted_by(ctx: Context, spec: ServiceSpec, number: int) -> Counted:
    """What the records of a registered version are counted by; its histograms are empty when it came without rows."""
    facts = version(ctx, spec.model.name, number)
    return Counted(facts.features, _reference(ctx, facts))


def known_counted(ctx: Context, spec: ServiceSpec, number: int) -> Counted | None:
    """As `counted_by`; None, and an error in the log, when there is none: then only requests are counted."""
    try:
        return counted_by(ctx, spec, number)
    except HeadraceError as error:
        LOG.error("no reference to count by", service=spec.name, version=number, error=error.message)
        return None
