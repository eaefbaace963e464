"""Drift, read from the counters that serving keeps: never recomputed from rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import takewhile

import numpy as np

from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import DAY, format_time
from headrace.monitoring.types import DriftFigure, DriftReport
from headrace.serving.counters import Edges
from headrace.serving.loading import Reference, counted_by
from headrace.serving.reading import prediction_records, read_cells
from headrace.serving.types import LIVE, CellCounts, Entry, ServiceSpec
from headrace.statistics.divergences import coarsened, homogeneity_p_value, js, psi
from headrace.statistics.histograms import Counts

Cells = dict[tuple[int, int], CellCounts]
"""(version, asking day) -> counts of its live answers."""


def live_cells(ctx: Context, service: ServiceSpec, from_day: int, to_day: int, upto: int) -> Cells:
    """The counts of live answers of the asking days from_day <= day < to_day, complete up to offset `upto` (exclusive) of
    the prediction log: what serving has counted, and the few answers since."""
    cells, counted = read_cells(ctx, service.name, from_day, to_day)
    found: Cells = {}
    for (version, role, day), counts in cells.items():
        if role in LIVE:
            found.setdefault((version, day), CellCounts()).add(counts)
    tails: dict[tuple[int, int], list[Entry]] = {}
    for _, record in takewhile(lambda entry: entry[0] < upto, prediction_records(ctx, service.name, counted)):
        if record.role in LIVE and from_day <= record.at // DAY < to_day:
            row = np.array(record.features) if record.features else None
            tails.setdefault((record.version, record.at // DAY), []).append((record, row))
    for (version, day), entries in tails.items():
        edges = Edges(counted_by(ctx, service, version))
        found.setdefault((version, day), CellCounts()).add(edges.count(entries))
    return found


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
    reference = counted_by(ctx, service, version).reference
    total = CellCounts()
    for (v, _), counts in sorted(inside.items()):
        if v == version:
            total.add(counts)
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
