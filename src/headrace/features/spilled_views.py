"""Window views over more events than fit into memory: parted on disk by the hash of `by`, computed part by part.

A value depends on the events of its key alone and on their order, so a part gives the same bits as the whole. A part that
is too large all the same is cut by time (`features/spilled_cuts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.backfill import backfill
from headrace.features.frames import DTYPES, predicate_inputs
from headrace.features.memory_budget import row_bytes
from headrace.features.spilled_cuts import EVENT_AT, Cutting, Part, Tables
from headrace.features.spilled_events import Pieces, SpilledEvents, Spilling, bucket_of
from headrace.features.types import FeatureSet, StoredView, WindowView
from headrace.kernel.progress import report
from headrace.kernel.specs import Specs

THREADS = 2
"""Parts that are computed side by side."""
PART_ROWS = 2_000_000
"""Rows of a part at most, also where memory allows more: larger parts were measured to be no faster."""


def groups(features: FeatureSet) -> list[tuple[StoredView, ...]]:
    """The views that are parted together: those of one stream and one `by`."""
    found: dict[tuple[str, tuple[str, ...]], list[StoredView]] = {}
    for view in features.views:
        found.setdefault((view.stream, view.by), []).append(view)
    return [tuple(views) for views in found.values()]


def columns_of(stream: StreamSpec, features: FeatureSet) -> list[str]:
    """The columns of the stream that the views read."""
    names: dict[str, None] = {}
    for view in features.views:
        if view.stream == stream.name:
            names |= dict.fromkeys([stream.time, *view.by, *view.source_columns, *predicate_inputs(view)])
            names |= {} if view.join is None else {view.join.on: None}
        if view.join is not None and view.join.report == stream.name:
            names |= dict.fromkeys([view.join.on, stream.time])
    return list(names)


@dataclass
class ViewResults:
    """The values of a group of views on disk, by the file of the spine whose rows they belong to."""

    views: tuple[StoredView, ...]
    pieces: Pieces

    @property
    def columns(self) -> list[str]:
        return [column for view in self.views for column in view.columns]

    def of(self, number: int, offsets: np.ndarray) -> list[pl.Series]:
        """The columns of the rows with these offsets, which are those of one file of the spine."""
        found = self.pieces.read(number)
        assert found is not None, "every row has its values"
        place = np.searchsorted(offsets, found["_own"].to_numpy())
        order = np.empty(len(offsets), np.int64)
        order[place] = np.arange(len(offsets))
        return found.select(self.columns)[order].get_columns()


@dataclass(frozen=True)
class SpilledViews:
    """Computes groups of views from spilled streams, with at most `budget` bytes for the parts in memory."""

    streams: Mapping[str, SpilledEvents]
    spine: str
    specs: Specs
    spilling: Spilling
    budget: int

    def results(self, views: tuple[StoredView, ...], name: str) -> ViewResults:
        spine = self.streams[self.spine]
        rows = self.streams[views[0].stream].rows + (0 if views[0].stream == self.spine else spine.rows)
        most = min(PART_ROWS, max(1, self.budget // (row_bytes(views) * THREADS)))
        count = max(1, -(-rows * 10 // (most * 9))) if views[0].by else 1
        pieces = self._pieces(views, name, count)
        results = ViewResults(views, Pieces(self.spilling.folder / f"{name}-values", len(spine.files)))
        ends = np.array(spine.ends, np.int64)

        def computed(part: Part) -> pl.DataFrame | None:
            return self._computed(views, part.read())

        with ThreadPoolExecutor(THREADS) as pool:
            for wave in _waves(self._parts(views, pieces, name, most), THREADS * most):
                for found in pool.map(computed, wave):
                    if found is not None:
                        _by_file(results.pieces, found, ends)
        return results

    def _parts(self, views: tuple[StoredView, ...], pieces: Mapping[str, Pieces], name: str, most: int) -> Iterator[Part]:
        """The parts in turn; those with more than twice as many rows as aimed at are cut by time."""
        times = dict.fromkeys(pieces, EVENT_AT)
        times["events"] = self.streams[views[0].stream].stream.time
        times["asking"] = self.streams[self.spine].stream.time
        limit = max(1, self.budget // row_bytes(views))
        cutting = Cutting(views, times, self.spilling.folder / f"{name}-cuts", most, limit)
        count = len(pieces["events"])
        for number in range(count):
            rows = pieces["events"].rows[number] + (pieces["asking"].rows[number] if "asking" in pieces else 0)
            if rows > 2 * most:
                yield from cutting.parts(pieces, number)
            else:

                def read(number: int = number) -> Tables:
                    return {"asking": None, **{kind: given.read(number) for kind, given in pieces.items()}}

                yield Part(rows, read)
            report(f"computing {', '.join(view.name for view in views)}", number + 1, count)

    def _pieces(self, views: tuple[StoredView, ...], name: str, count: int) -> dict[str, Pieces]:
        """The events (`events`), the asking points where they are others (`asking`) and the reports of each part."""
        by, stream = views[0].by, self.streams[views[0].stream]
        dtypes = {column: DTYPES[stream.stream.field(column).type] for column in by}
        folder = self.spilling.folder
        kept = columns_of(stream.stream, FeatureSet(tuple(views)))
        parts = {"events": Pieces(folder / f"{name}-events", count)}
        for frame in stream.frames(list(dict.fromkeys([*kept, "_offset", "_created"]))):
            parts["events"].split(frame, bucket_of(frame, by, count))
        if stream.stream.name != self.spine:
            spine = self.streams[self.spine]
            parts["asking"] = Pieces(folder / f"{name}-asking", count)
            for frame in spine.frames(list(dict.fromkeys([*by, spine.stream.time, "_offset"]))):
                keys = frame.with_columns(pl.col(column).cast(dtype) for column, dtype in dtypes.items())
                parts["asking"].split(frame, bucket_of(keys, by, count))
        for join in {view.join.report: view.join for view in views if view.join is not None}.values():
            reports = parts[join.report] = Pieces(folder / f"{name}-{join.report}", count)
            for number, frame in self._reports(join.report, join.on, stream, by, count):
                reports.write(number, frame)
        return parts

    def _reports(
        self, report_stream: str, on: str, stream: SpilledEvents, by: Sequence[str], count: int
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """(part, the reports of events of that part, with the time of the event); a report may come more than once."""
        dtype = DTYPES[stream.stream.field(on).type]
        reports = self.streams[report_stream]
        for block in reports.frames(list(dict.fromkeys([on, reports.stream.time, "_offset", "_created"]))):
            table = block.with_columns(pl.col(on).cast(dtype).alias("_on"))
            for frame in stream.frames(list(dict.fromkeys([on, *by, stream.stream.time]))):
                at = frame[stream.stream.time]
                events = pl.DataFrame({"_on": frame[on], "_part": bucket_of(frame, by, count), EVENT_AT: at}).unique()
                found = table.join(events, on="_on", how="inner")
                for (number,), part in found.partition_by("_part", as_dict=True).items():
                    yield int(number), part.select(*block.columns, EVENT_AT)

    def _computed(self, views: tuple[StoredView, ...], tables: Tables) -> pl.DataFrame | None:
        """`_own`, the offset of the spine's row, and the columns of the views for the rows of one part."""
        view, spine = views[0], self.streams[self.spine].stream
        events = tables["events"]
        rows = events if tables["asking"] is None and view.stream == self.spine else tables["asking"]
        if rows is None:
            return None
        frames = {view.stream: without_rows(self.streams[view.stream].stream) if events is None else events}
        for name in {view.join.report for view in views if view.join is not None}:
            found = tables[name]
            table = without_rows(self.streams[name].stream) if found is None else found.unique("_offset").sort("_offset")
            frames[name] = table
        asking = rows.with_columns(pl.col(spine.time).alias("_at"), pl.col("_offset").alias("_own"))
        values = [asking.select("_own")]
        for members, needed in self._by_reach(views, asking, frames[view.stream]):
            given = {**frames, view.stream: needed}
            found = backfill(FeatureSet(members), asking, given, self.specs, spine=self.spine)
            values.append(found.select(column for member in members for column in member.columns))
        columns = [column for view in views for column in view.columns]
        return pl.concat(values, how="horizontal").select("_own", *columns)

    def _by_reach(
        self, views: tuple[StoredView, ...], asking: pl.DataFrame, events: pl.DataFrame
    ) -> Iterator[tuple[tuple[StoredView, ...], pl.DataFrame]]:
        """The views with the events that they need: in a cut, where some reach further back than others."""
        reaches = {view.span if isinstance(view, WindowView) else None for view in views}
        if len(reaches) == 1 or len(events) <= len(asking):
            yield views, events
            return
        time = pl.col(self.streams[views[0].stream].stream.time).to_physical()
        low = asking["_at"].to_physical().min()
        for reach in reaches:
            members = tuple(view for view in views if (view.span if isinstance(view, WindowView) else None) == reach)
            yield members, events if reach is None else events.filter(time > low - pl.lit(reach))


def _waves(parts: Iterable[Part], rows: int) -> Iterator[list[Part]]:
    """The parts that are computed side by side: up to THREADS, with `rows` together unless one alone has more."""
    wave: list[Part] = []
    for part in parts:
        if wave and (len(wave) == THREADS or sum(one.rows for one in wave) + part.rows > rows):
            yield wave
            wave = []
        wave.append(part)
    if wave:
        yield wave


def without_rows(stream: StreamSpec) -> pl.DataFrame:
    """No events of the stream, as a frame."""
    fields = {field.name: DTYPES[field.type] for field in stream.fields}
    return pl.DataFrame(schema={**fields, "_offset": pl.Int64(), "_created": pl.Int64()})


def _by_file(pieces: Pieces, found: pl.DataFrame, ends: np.ndarray) -> None:
    """Write the rows, which come in order of `_own`, under the number of the spine's file that holds them."""
    bounds = np.searchsorted(found["_own"].to_numpy(), ends).tolist()
    for number, (start, end) in enumerate(zip([0, *bounds], bounds, strict=False)):
        if end > start:
            pieces.write(number, found[start:end])
