"""Backfill straight from files of events: no server, no data folder."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from headrace.data.files import check_out, write_table
from headrace.data.types import StreamSpec
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, streams_of
from headrace.features.event_files import read_events
from headrace.features.memory_budget import fits, memory_bytes
from headrace.features.requests import askable, with_inputs
from headrace.features.spilled_backfill import Spilled
from headrace.features.types import EventSpine, FeatureSet, FeatureSource, RequestFeatures, RequestField, stored_views
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import NotFound, UsageError
from headrace.kernel.specs import Specs


def select_features(specs: Specs, stream: StreamSpec, names: Sequence[str] | None) -> FeatureSet:
    """The views and functions called `names` with what the functions read, or fields of the asking event; by default all that
    it can be asked for."""
    declared: dict[str, FeatureSource] = {f.name: f for f in specs.all(RequestFeatures)}
    declared.update({view.name: view for view in stored_views(specs)})
    fields = {field.name for field in stream.fields}
    if names is None:
        return askable(specs, fields)
    sources: list[FeatureSource] = []
    for name in names:
        if name not in declared and name not in fields:
            raise NotFound.of("feature", name, [*declared, *fields])
        sources.append(declared.get(name, RequestField(name)))
    return with_inputs(sources, specs)


def backfill_files(
    specs: Specs,
    streams: Mapping[str, Path],
    *,
    spine: str,
    order_by: str | None = None,
    features: Sequence[str] | None = None,
    memory: str | None = None,
    out: Path,
) -> dict[str, Any]:
    """Write one row per event of the stream `spine` in arrival order: its key, its time, then the features (Parquet).

    Returns `{"rows", "features", "seconds", "peak_rss_mb"}`. `order_by` orders the file of the spine. `memory` is what may
    be used, such as 4GB, by default half of the machine's: what needs more goes through files beside `out`.
    """
    began = MACHINE.monotonic()
    stream = specs.get(StreamSpec, spine)
    for name in streams:
        specs.get(StreamSpec, name)
    check_out(out, *streams.values())
    chosen = select_features(specs, stream, features)
    needed = list(dict.fromkeys([spine, *streams_of(chosen)]))
    absent = [name for name in needed if name not in streams]
    if absent:
        raise UsageError(
            f"the features read the stream `{absent[0]}`, which is not given", hint=f"add --stream {absent[0]}=PATH"
        )

    chosen_files = [(specs.get(StreamSpec, name), streams[name]) for name in needed]
    budget = memory_bytes(memory)
    if fits(chosen_files, chosen, budget):
        rows = _in_memory(specs, chosen, stream, chosen_files, order_by, out)
    else:
        rows = Spilled(specs, chosen, stream, budget, order_by).write(streams, out)
    return {
        "rows": rows,
        "features": len(chosen.given),
        "seconds": round(MACHINE.monotonic() - began, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _in_memory(
    specs: Specs, features: FeatureSet, spine: StreamSpec, files: Sequence[tuple[StreamSpec, Path]], order_by: str | None,
    out: Path,
) -> int:  # fmt: skip
    def read(file: tuple[StreamSpec, Path]) -> pl.DataFrame:
        return read_events(*file, order_by=order_by if file[0].name == spine.name else None)

    with ThreadPoolExecutor(2) as pool:
        frames = dict(zip([stream.name for stream, _ in files], pool.map(read, files), strict=True))
    asking = asking_points(EventSpine(spine.name), frames, specs)
    rows = backfill(features, asking, frames, specs, spine=spine.name)
    write_table(rows.select(*dict.fromkeys([spine.key, spine.time, *features.given])), out)
    return len(rows)
