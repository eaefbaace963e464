"""Backfill of more events than fit into memory: the same values, computed from and merged through files beside OUT."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from headrace.data.files import write_table
from headrace.data.types import StreamSpec
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill, feature_columns, streams_of
from headrace.features.memory_budget import PROCESS_BYTES, give_freed_memory_back
from headrace.features.spilled_events import SpilledEvents, Spilling, spill_events
from headrace.features.spilled_views import SpilledViews, ViewResults, columns_of, groups, without_rows
from headrace.features.types import EventSpine, FeatureSet, RequestFeatures
from headrace.kernel.errors import InvalidInput
from headrace.kernel.progress import report
from headrace.kernel.specs import Specs


@dataclass(frozen=True)
class Spilled:
    """A backfill within `budget` bytes of memory. `order_by` orders the file of the spine."""

    specs: Specs
    features: FeatureSet
    spine: StreamSpec
    budget: int
    order_by: str | None = None

    def write(self, paths: Mapping[str, Path], out: Path) -> int:
        """Write key, time and features of each event of the spine (Parquet); return the number of rows."""
        give_freed_memory_back()
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            spilling = Spilling(Path(folder), self._at_once())
            streams = {name: self._spill(name, paths[name], spilling) for name in self._needed()}
            views = SpilledViews(streams, self.spine.name, self.specs, spilling, self._for_parts())
            results = [views.results(group, f"group-{number}") for number, group in enumerate(groups(self.features))]
            self._merge(streams[self.spine.name], results, out)
        spine = streams[self.spine.name]
        return spine.rows - len(spine.dropped)

    def _needed(self) -> list[str]:
        return list(dict.fromkeys([self.spine.name, *streams_of(self.features)]))

    def _spill(self, name: str, path: Path, spilling: Spilling) -> SpilledEvents:
        stream = self.specs.get(StreamSpec, name)
        columns = columns_of(stream, self.features)
        if name == self.spine.name:
            columns += [self.spine.key, *(column for view in self.features.views for column in view.by), *self._fields()]
        order_by = self.order_by if name == self.spine.name else None
        return spill_events(stream, path, columns, spilling, order_by=order_by)

    def _fields(self) -> list[str]:
        """The fields of the asking event that are features or that functions read."""
        known = {field.name for field in self.spine.fields}
        return [name for name in (*self.features.given, *self._inputs()) if name in known]

    def _inputs(self) -> list[str]:
        return [name for source in self.features.sources if isinstance(source, RequestFeatures) for name in source.inputs]

    def _for_parts(self) -> int:
        return max(self.budget - PROCESS_BYTES, self.budget // 2)

    def _at_once(self) -> int:
        """Rows in memory at once: with all columns, a few copies of each."""
        widest = max(len(self.specs.get(StreamSpec, name).fields) for name in self._needed())
        return max(1, self._for_parts() // (8 * (widest + len(self.features.given) + 4) * 16))

    def _merge(self, spine: SpilledEvents, results: Sequence[ViewResults], out: Path) -> None:
        """Write the rows in arrival order, a file of the spine at a time."""
        parts = self._rows(spine, results)
        first = next(parts, None)
        if first is None:
            first = self._no_rows()

        def given(
            columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, batch: int | None
        ) -> Iterator[pl.DataFrame]:
            yield first
            yield from parts

        beside = out.with_name(f".{out.name}.part")
        if len(spine.files) == 1:
            write_table(first, out)
            return
        lazy = register_io_source(given, schema=first.schema)
        lazy.sink_parquet(beside, compression="lz4", statistics=False, maintain_order=True)
        beside.replace(out)

    def _rows(self, spine: SpilledEvents, results: Sequence[ViewResults]) -> Iterator[pl.DataFrame]:
        schema: pl.Schema | None = None
        columns = self._columns()
        for number, frame in enumerate(spine.frames()):
            if frame.is_empty():
                continue
            offsets = frame["_offset"].to_numpy()
            series = [column for found in results for column in found.of(number, offsets)]
            asking = frame.with_columns(pl.col(self.spine.time).alias("_at"), *series)
            made = feature_columns(self.features, asking, {}, self.specs, self.spine.name)
            rows = asking.with_columns(made).select(*columns)
            if schema is not None and rows.schema != schema:
                name = next(name for name in columns if rows.schema[name] != schema[name])
                raise InvalidInput(
                    f"`{name}` is {schema[name]} for the first rows and {rows.schema[name]} for others: its function gives "
                    "arrays of different types",
                    hint="let the function convert them, or give more `--memory`",
                )
            schema = rows.schema
            report("writing", number + 1, len(spine.files))
            yield rows

    def _columns(self) -> list[str]:
        return list(dict.fromkeys([self.spine.key, self.spine.time, *self.features.given]))

    def _no_rows(self) -> pl.DataFrame:
        frames = {name: without_rows(self.specs.get(StreamSpec, name)) for name in self._needed()}
        asking = asking_points(EventSpine(self.spine.name), frames, self.specs)
        return backfill(self.features, asking, frames, self.specs, spine=self.spine.name).select(self._columns())
