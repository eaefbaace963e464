"""Parity: every logged feature value, recomputed from the event log at its logged position, is the same to the bit.

How far the logged positions lag behind the newest ones is a second figure, staleness.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import polars as pl

from headrace.data.history import log_history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.backfill import streams_of
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.routes import stream_of
from headrace.features.types import FeatureSet
from headrace.kernel.errors import InvalidInput
from headrace.kernel.partitions import base_of, partition_of
from headrace.registry.declarations import Definition, definition_of
from headrace.serving.reading import prediction_records
from headrace.serving.types import PredictionRecord, ServiceSpec

AT_ONCE = 20_000
Appended = dict[str, list[np.ndarray]]
"""By stream and partition: the append times of its records."""
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """A logged value that is not what the event log gives. None is a null."""

    prediction_id: str
    role: str
    version: int
    feature: str
    logged: float | None
    recomputed: float | None


@dataclass(slots=True)
class Parity:
    """`values_compared` is predictions times features; a prediction that several versions scored counts once in every
    figure, and the features of each of its records are compared. `values_stale`: values that were not yet those of the
    newest events appended when the prediction was made. `max_staleness_s`: the longest age, then, of an event that was appended
    and not yet applied. `differences` are the first hundred."""

    values_compared: int = 0
    values_different: int = 0
    values_stale: int = 0
    max_staleness_s: float = 0.0
    differences: list[Difference] = field(default_factory=list)


def parity(ctx: Context, service: str) -> Parity:
    """Recompute the features of every logged champion, canary and shadow prediction, each by the definitions of its version.
    Predictions whose features were sent by the client (`/predict`) or could not be read are left out."""
    spec = ctx.specs.get(ServiceSpec, service)
    events = _Events(ctx)
    definitions: dict[int, Definition] = {}
    records = (record for _, record in prediction_records(ctx, service) if record.request and record.features)
    found = _Found()
    while batch := list(islice(records, AT_ONCE)):
        groups: dict[str, list[PredictionRecord]] = {}
        by_meaning: dict[str, Definition] = {}
        for record in batch:
            if record.version not in definitions:
                definitions[record.version] = definition_of(ctx, spec.model.name, record.version)
            definition = definitions[record.version]
            by_meaning[definition.meaning] = definition
            groups.setdefault(definition.meaning, []).append(record)
        for meaning, group in groups.items():
            _compare(spec, by_meaning[meaning], group, events, found)
            columns = len(by_meaning[meaning].features.columns)
            found.predictions.update({(record.id, meaning): columns for record in group})
    compared = sum(found.predictions.values())
    return Parity(compared, len(found.different), len(found.stale), found.max_staleness_s, found.differences)


class _Events:
    """The accepted events of each stream, and when its records were appended: read when first asked for."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.frames: dict[str, pl.DataFrame] = {}
        self.appended: Appended = {}

    def need(self, features: FeatureSet) -> None:
        for stream in streams_of(features):
            if stream not in self.frames:
                spec = self._ctx.specs.get(StreamSpec, stream)
                self.appended[stream] = [_append_times(self._ctx, stream, part) for part in range(spec.partitions)]
                self.frames[stream] = log_history(self._ctx, stream)


@dataclass(slots=True)
class _Found:
    """What was seen in the batches so far: the number of features of each prediction and meaning; `different` and `stale`
    hold (prediction id, meaning, feature)."""

    predictions: dict[tuple[str, str], int] = field(default_factory=dict)
    different: set[tuple[str, str, str]] = field(default_factory=set)
    stale: set[tuple[str, str, str]] = field(default_factory=set)
    max_staleness_s: float = 0.0
    differences: list[Difference] = field(default_factory=list)


def _compare(
    spec: ServiceSpec, definition: Definition, records: list[PredictionRecord], events: _Events, found: _Found
) -> None:
    features, specs, meaning = definition.features, definition.specs, definition.meaning
    columns = features.columns
    events.need(features)
    frames = events.frames
    if any(len(record.features) != len(columns) for record in records):
        raise InvalidInput(
            f"the log of `{spec.name}` holds predictions with another number of features than {len(columns)}",
            hint="run parity with the system file that made them",
        )
    reads = [_read(spec, record) for record in records]
    logged = np.array([record.features for record in records], dtype=np.float64)
    expected = recompute(features, reads, frames, specs, asking=spec.request_stream)
    for row, column in np.argwhere(~_same_bits(logged, expected)).tolist():
        record = records[row]
        value = (record.id, meaning, columns[column])
        if value not in found.different and len(found.differences) < SHOWN:
            found.differences.append(
                Difference(record.id, record.role, record.version, columns[column], _value(logged[row, column]),
                           _value(expected[row, column]))
            )  # fmt: skip
        found.different.add(value)
    newest, age = _newest(records, events.appended)
    found.max_staleness_s = max(found.max_staleness_s, age)
    behind = [i for i, positions in enumerate(newest) if positions != records[i].positions]
    if behind:
        then = recompute(
            features, [replace(reads[i], positions=newest[i]) for i in behind], frames, specs, asking=spec.request_stream
        )
        late = np.argwhere(~_same_bits(logged[behind], then)).tolist()
        found.stale.update((records[behind[row]].id, meaning, columns[column]) for row, column in late)


def _read(spec: ServiceSpec, record: PredictionRecord) -> LoggedRead:
    own_id = None if record.own_id is None or spec.id is None else record.request[spec.id]
    return LoggedRead(record.request, record.at, own_id, record.positions)


def _append_times(ctx: Context, stream: str, partition: int) -> np.ndarray:
    """Machine-clock microseconds at which each record of the partition was appended, int64, not descending; 0 for those that
    retention has dropped."""
    topic = ctx.namespace.stream(stream)
    offset, end = ctx.events.first(topic, partition), ctx.events.end(topic, partition)
    parts: list[np.ndarray] = [np.zeros(offset, np.int64)]
    while offset < end:
        records = ctx.events.read(topic, partition, offset)
        parts.append(np.array(records.timestamps, dtype=np.int64))
        offset = records.next
    return np.maximum.accumulate(np.concatenate(parts))


def _newest(records: list[PredictionRecord], appended: Appended) -> tuple[list[dict[str, dict[str, int]]], float]:
    """For each record its positions had everything been applied, and the longest age in seconds of what was not."""
    made = np.array([record.machine_at for record in records], dtype=np.int64)
    ends = {
        stream: [np.searchsorted(times, made, side="right").tolist() for times in parts] for stream, parts in appended.items()
    }
    newest, longest = [], 0
    for number, record in enumerate(records):
        then: dict[str, dict[str, int]] = {}
        for view, positions in record.positions.items():
            then[view] = dict(positions)
            for name, position in positions.items():
                stream = stream_of(name)
                partition = partition_of(position + 1)
                base = base_of(partition)
                last = base + ends[stream][partition][number] - 1
                if position < last:
                    then[view][name] = last
                    longest = max(longest, record.machine_at - int(appended[stream][partition][position + 1 - base]))
        newest.append(then)
    return newest, longest / 1e6


def _same_bits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where two float64 arrays are equal to the bit; any NaN is a null and equals any other."""
    equal: np.ndarray = (left.view(np.int64) == right.view(np.int64)) | (np.isnan(left) & np.isnan(right))
    return equal


def _value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
