"""Drift, read from the counters that serving keeps: never recomputed from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

import msgspec
import numpy as np

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import DAY, format_time
from headrace.monitoring.types import DriftFigure, DriftReport
from headrace.registry import versions
from headrace.serving.loading import Reference
from headrace.serving.reading import prediction_records, read_cells
from headrace.serving.types import CellCounts, PredictionRecord, ServiceSpec
from headrace.statistics.divergences import coarsened, homogeneity_p_value, js, psi
from headrace.statistics.histograms import Counts, bin_counts

LIVE = ("champion", "canary")
Cells = dict[tuple[int, int], CellCounts]
"""(version, asking day) -> counts of its live answers."""


class _Counted(msgspec.Struct):
    to: int


@dataclass
class _Tail:
    """Live answers of one version and day that are not counted yet."""

    rows: list[PredictionRecord] = field(default_factory=list)


def live_cells(ctx: Context, service: ServiceSpec, from_day: int, to_day: int, upto: int) -> Cells:
    """The counts of live answers of the asking days from_day <= day < to_day, complete up to offset `upto` (exclusive) of
    the prediction log: what serving has counted, and the few answers since."""
    topic = ctx.namespace.counters(service.name)
    while True:
        end = ctx.events.end(topic, 0)
        cells = read_cells(ctx, service.name, from_day, to_day)
        if ctx.events.end(topic, 0) == end:
            break
    last = ctx.events.read(topic, 0, end - 1, max_records=1).values[0] if end else b'{"to":0}'
    counted = msgspec.json.decode(last, type=_Counted).to
    found: Cells = {}
    for (version, role, day), counts in cells.items():
        if role in LIVE:
            _add(found.setdefault((version, day), CellCounts()), counts)
    for (version, day), tail in _tails(ctx, service, counted, upto).items():
        if from_day <= day < to_day:
            _add(found.setdefault((version, day), CellCounts()), _counted(ctx, service, version, tail.rows))
    return found


def _tails(ctx: Context, service: ServiceSpec, first: int, upto: int) -> dict[tuple[int, int], _Tail]:
    found: dict[tuple[int, int], _Tail] = {}
    for _, record in takewhile(lambda entry: entry[0] < upto, prediction_records(ctx, service.name, first)):
        if record.role in LIVE:
            found.setdefault((record.version, record.at // DAY), _Tail()).rows.append(record)
    return found


def _counted(ctx: Context, service: ServiceSpec, version: int, records: list[PredictionRecord]) -> CellCounts:
    counts = CellCounts(len(records), sum(r.error is not None for r in records))
    reference = reference_of(ctx, service, version)
    rows = [r.features for r in records if r.features]
    names = versions.version(ctx, service.model.name, version).features
    matrix = np.array(rows, np.float64).reshape(len(rows), len(names))
    for place, name in enumerate(names):
        if name in reference.features:
            counts.features[name] = bin_counts(matrix[:, place], np.array(reference.features[name].edges))
    if reference.score is not None:
        counts.score = bin_counts([r.score for r in records if r.score is not None], np.array(reference.score.edges))
    return counts


def _add(total: CellCounts, more: CellCounts) -> None:
    total.count += more.count
    total.errors += more.errors
    for name, counts in more.features.items():
        total.features[name] = total.features[name] + counts if name in total.features else counts
    if len(more.score):
        total.score = total.score + more.score if len(total.score) else more.score


def reference_of(ctx: Context, service: ServiceSpec, version: int) -> Reference:
    """The histograms of the rows that the version was trained on; empty for one registered without rows."""
    digest = versions.version(ctx, service.model.name, version).reference
    return msgspec.json.decode(ctx.blobs.get(ctx.system, digest), type=Reference)


def drift(ctx: Context, service: ServiceSpec, cells: Mapping[tuple[int, int], CellCounts], start: int, end: int) -> (
    DriftReport | None
):  # fmt: skip
    """The drift of the version that answered most on the window's last day, over the asking days of [start, end). Times
    are microseconds; a day counts whole.

    It is `complete` when that version gave most of the answers on every day of the window: with some weekdays missing or
    thin, the calendar alone would look like drift. None without answers.
    """
    days = range(start // DAY, -(-end // DAY))
    inside = {key: counts for key, counts in cells.items() if key[1] in days}
    answered = Counter(dict.fromkeys(days, 0))
    for (_, day), counts in inside.items():
        answered[day] += counts.count
    if not inside:
        return None
    last = max(day for _, day in inside)
    version = max((counts.count, v) for (v, day), counts in inside.items() if day == last)[1]
    complete = all(2 * _count(inside, version, day) > answered[day] for day in days)
    reference = reference_of(ctx, service, version)
    total = CellCounts()
    for (v, _), counts in sorted(inside.items()):
        if v == version:
            _add(total, counts)
    figures = list(_figures(reference, total))
    return DriftReport(
        service.name, version, format_time(start), format_time(end), complete, total.count, total.errors, figures
    )


def _count(cells: Mapping[tuple[int, int], CellCounts], version: int, day: int) -> int:
    return cells[version, day].count if (version, day) in cells else 0


def _figures(reference: Reference, total: CellCounts) -> Iterator[DriftFigure]:
    for name, histogram in reference.features.items():
        if name in total.features:
            yield _figure(name, np.array(histogram.counts, np.int64), total.features[name])
    if reference.score is not None and len(total.score):
        yield _figure("score", np.array(reference.score.counts, np.int64), total.score)


def _figure(name: str, reference: Counts, current: Counts) -> DriftFigure:
    if len(reference) != len(current):
        raise CheckFailed(
            f"`{name}` was counted on {len(current)} cells, the reference has {len(reference)}",
            hint="the version's reference changed while it served; register a new version",
        )
    left, right = coarsened(reference, current)
    return DriftFigure(
        name, psi(left, right), js(left, right), homogeneity_p_value(left, right), _null_share(current), _null_share(reference)
    )


def _null_share(counts: Counts) -> float:
    total = int(counts.sum())
    return float(counts[-1]) / total if total else 0.0
