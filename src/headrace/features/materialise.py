"""Keeping the online state of window views: a sink of applied batches, guarded by the offsets it has applied."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from headrace.data.applying import AppliedBatch
from headrace.data.fencing import Fence
from headrace.data.frames import physical
from headrace.data.history import history
from headrace.data.positions import position
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.online.port import OnlineStore
from headrace.features.codes import key_codes
from headrace.features.frames import passing
from headrace.features.long_states import LONG, all_blobs, held_states
from headrace.features.rekeyed_state import applied_by_all
from headrace.features.report_index import Changes, ReportIndex
from headrace.features.routes import route_of
from headrace.features.state import NEVER, Applied, StateLayout, entity_keys, pack_states, pack_texts, texts_of, unpack_states
from headrace.features.timeline import ALWAYS, order
from headrace.features.types import AttributeView, StoredView
from headrace.features.words import value_word, with_id_words
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of

CHUNK = 262_144
"""Events that a rebuild applies at once."""


class ViewWriter:
    """The state of one view, of the keys of one partition; every method returns what has to be written with it, at once.
    `interleaved`: the events of a key do not come in the order of their positions. `long`: as `long_states.LONG`."""

    interleaved = False

    def __init__(self, online: OnlineStore, layout: StateLayout, partition: int = 0, *, long: int = LONG) -> None:
        self.layout = layout
        self._long = long
        self._online = online
        self._applied_key = layout.applied_key_of(partition)
        join = layout.view.join
        self._index = None if join is None else ReportIndex(layout, join.on, partition)

    def applied(self) -> Applied:
        return Applied.unpack(self._online.get(self._applied_key))

    def apply_events(self, frame: pl.DataFrame, next_offset: int) -> Changes:
        """Insert the events in order, late ones too."""
        applied = self.applied()
        if next_offset - 1 <= applied.stream:
            return {}
        fresh = frame["_offset"].to_numpy() > applied.stream
        changes, watermark = self.event_changes(frame, fresh, applied.watermark, next_offset - 1)
        changes[self._applied_key] = Applied(next_offset - 1, applied.report, watermark).pack()
        return changes

    def event_changes(self, frame: pl.DataFrame, kept: np.ndarray, watermark: int, guard: int) -> tuple[Changes, int]:
        """Of the events that are `kept`, which have positions above the guards of their states; and the stream's watermark
        with them, by which what no window can reach is trimmed."""
        layout, view = self.layout, self.layout.view
        time = physical(frame[layout.stream.time]).to_numpy()
        watermark = max(watermark, int(time[kept].max(initial=NEVER)))
        trim = NEVER if view.span is None else watermark - layout.stream.lateness - view.span
        kept = kept & (time > trim)
        if not layout.keeps_filtered and view.predicate is not None:
            kept = kept & passing(view, layout.stream, frame)
        code, _ = key_codes([frame[name] for name in view.by], [], len(frame), 0)
        kept &= code >= 0
        changes: Changes = {}
        if kept.any():
            if not kept.all():
                frame, code = frame.filter(pl.Series(kept)), code[kept]
            oldest = watermark - layout.stream.lateness
            changes = self._insert(frame, code, trim, oldest, guard)
        if self._index is not None:
            changes.update(self._index.forget(self._online, trim))
        return changes, watermark

    def _insert(self, frame: pl.DataFrame, code: np.ndarray, trim: int, oldest: int, position: int) -> Changes:
        """`oldest`: the oldest asking time that the state must reach."""
        _, first, code = np.unique(code, return_index=True, return_inverse=True)
        entities = entity_keys(frame, self.layout.view.by, first)
        ordered = sorted(range(len(entities)), key=entities.__getitem__)  # neighbours lie in one page of the store
        entities = [entities[number] for number in ordered]
        code = np.argsort(ordered)[code]
        events = self.layout.events(frame)
        joined: Changes = {}
        if self._index is not None:
            joined = self._join(self._index, frame, events, [entities[number] for number in code.tolist()])
        words = self.layout.words
        held = held_states(self._online, self.layout, entities, np.bincount(code), self._long)
        fresh = events[words["offset"]] > held.guards[code, 0]
        events = np.concatenate([held.events, events[:, fresh]], axis=1)
        code = np.concatenate([held.code, code[fresh]])
        time = events[words["time"]]
        index = order(code, np.zeros_like(time))
        if self.interleaved:
            index = np.lexsort((events[words["offset"]], time, code))
        elif bool(np.any((np.diff(time[index]) < 0) & (np.diff(code[index]) == 0))):
            index = order(code, time)
        if isinstance(self.layout.view, AttributeView):
            index = self._newest(events, code, oldest)
        index = index[time[index] > trim]
        sizes = np.bincount(code[index], minlength=len(held.keys))
        blobs = pack_states(events[:, index], sizes, position, held.guards[:, 1])
        changes: Changes = {**dict.fromkeys(held.gone), **dict(zip(held.keys, blobs, strict=True))}
        changes.update(joined)
        if self.layout.view.text_sources:
            changes.update(self._texts(frame, entities, events[:, index], sizes))
        return changes

    def _newest(self, events: np.ndarray, code: np.ndarray, oldest: int) -> np.ndarray:
        """The order of the events, without those that no asking time from `oldest` on can see: of those that were and were
        known before it, all but the newest of each key."""
        words = self.layout.words
        time, created = events[words["time"]], events[words["created"]]
        index = np.lexsort((events[words["offset"]], created, time, code))
        settled = np.flatnonzero(np.maximum(time, created)[index] < oldest)
        mine = code[index[settled]]
        hidden = settled[:-1][mine[1:] == mine[:-1]]
        return np.delete(index, hidden)

    def _texts(self, frame: pl.DataFrame, entities: list[bytes], events: np.ndarray, sizes: np.ndarray) -> Changes:
        """The texts of the states, those of events that are gone left out."""
        keys = [self.layout.texts_key(entity) for entity in entities]
        texts = texts_of(self._online.get_many(keys))
        for column in self.layout.view.text_sources:
            texts |= {value_word(text): text for text in frame[column].unique().drop_nulls()}
        words = events[[self.layout.words[f"value {column}"] for column in self.layout.view.text_sources]]
        ends = np.cumsum(sizes).tolist()
        return {key: pack_texts(words[:, a:b], texts) for key, a, b in zip(keys, [0, *ends], ends, strict=False)}

    def _join(self, index: ReportIndex, frame: pl.DataFrame, events: np.ndarray, entities: list[bytes]) -> Changes:
        """Enter the events where their reports will look for them, and take over the reports that came before."""
        words = self.layout.words
        rows = np.arange(len(frame))
        if frame[index.on].null_count():
            rows = np.flatnonzero(frame[index.on].is_not_null().to_numpy())
        keys = index.keys(frame, rows)
        for row, entry in zip(rows.tolist(), index.find(self._online, keys), strict=True):
            if entry is not None:
                events[words["reported"], row] = entry.reported
        times, offsets, reported = (events[words[name], rows].tolist() for name in ("time", "offset", "reported"))
        return index.enter(keys, times, offsets, reported, [entities[row] for row in rows.tolist()])

    def apply_reports(self, frame: pl.DataFrame, next_offset: int, time: str) -> Changes:
        """Mark the events of the reports."""
        applied = self.applied()
        if next_offset - 1 <= applied.report or self._index is None:
            return {}
        changes = self.report_changes(frame.filter(pl.col("_offset") > applied.report), time, next_offset - 1)
        changes[self._applied_key] = Applied(applied.stream, next_offset - 1, applied.watermark).pack()
        return changes

    def report_changes(self, frame: pl.DataFrame, time: str, guard: int) -> Changes:
        """A report that comes before its event waits for it."""
        assert self._index is not None
        frame = frame.filter(pl.col(self._index.on).is_not_null())
        earliest: dict[bytes, int] = {}
        for key, at in zip(self._index.keys(frame), frame[time].to_physical().to_list(), strict=True):
            earliest[key] = min(at, earliest.get(key, ALWAYS))
        waiting: dict[bytes, int] = {}
        marks: dict[bytes, list[tuple[int, int]]] = {}
        changes: Changes = {}
        for key, entry in zip(earliest, self._index.find(self._online, list(earliest)), strict=True):
            if entry is not None and entry.reported <= earliest[key]:
                continue
            if entry is None or entry.offset < 0:
                waiting[key] = earliest[key]
            else:
                marks.setdefault(entry.entity, []).append((entry.offset, earliest[key]))
                changes[key] = type(entry)(entry.time, entry.offset, earliest[key], entry.entity).pack()
        changes.update(self._index.wait(waiting))
        changes.update(self._mark(marks, guard))
        return changes

    def _mark(self, marks: dict[bytes, list[tuple[int, int]]], position: int) -> Changes:
        words = self.layout.words
        keys, found, owner = all_blobs(self._online, self.layout, list(marks), self._long)
        events, code, applied = unpack_states(found, len(words))
        places = zip(owner[code].tolist(), events[words["offset"]].tolist(), strict=True)
        place = {pair: number for number, pair in enumerate(places)}
        for number, own in enumerate(marks.values()):
            for offset, at in own:
                if (number, offset) in place:
                    events[words["reported"], place[number, offset]] = at
        blobs = pack_states(events, np.bincount(code, minlength=len(keys)), applied[:, 0], position)
        return dict(zip(keys, blobs, strict=True))


class OnlineViews:
    """All materialised views of a system; those that are re-keyed are not applied here (`rekeyed_views.py`). Batches of
    different streams may come from different threads, those of different partitions of one stream from different processes:
    they change the states of different keys."""

    def __init__(self, ctx: Context, views: Sequence[StoredView], *, long: int = LONG) -> None:
        self._ctx, self._long = ctx, long
        self._lock = threading.Lock()
        unique = {view.definition_hash: view for view in views}
        specs = {view.definition_hash: ctx.specs.get(StreamSpec, view.stream) for view in views}
        self.views = tuple(unique.values())
        layouts = [StateLayout(view, specs[digest], ctx.namespace) for digest, view in unique.items()]
        self._layouts = [layout for layout in layouts if not route_of(layout.view, ctx.specs).rekeyed]
        self._by_partition: dict[int, list[ViewWriter]] = {}

    def _writers(self, partition: int) -> list[ViewWriter]:
        if partition not in self._by_partition:
            layouts = [layout for layout in self._layouts if layout.stream.partitions > partition]
            online, long = self._ctx.online, self._long
            self._by_partition[partition] = [ViewWriter(online, layout, partition, long=long) for layout in layouts]
        return self._by_partition[partition]

    def sink(self, batch: AppliedBatch) -> None:
        """Apply a batch of accepted events to every view that reads its stream; what is applied already is skipped. Fenced
        when the partition is another process's."""
        self._apply(self._writers(batch.partition), batch)

    def _apply(self, writers: Sequence[ViewWriter], batch: AppliedBatch) -> None:
        with self._lock:
            changes: Changes = {}
            own = [writer.layout for writer in writers if writer.layout.view.stream == batch.stream and writer.layout.tells_own]
            frame = with_id_words(batch.frame, own[0].stream.id) if own else batch.frame
            for writer in writers:
                view = writer.layout.view
                if view.stream == batch.stream:
                    changes.update(writer.apply_events(frame, batch.next_offset))
                if view.join is not None and view.join.report == batch.stream:
                    time = self._ctx.specs.get(StreamSpec, batch.stream).time
                    changes.update(writer.apply_reports(batch.frame, batch.next_offset, time))
            if changes and batch.fence is not None:
                batch.fence.write(changes)
            elif changes:
                self._ctx.online.write(changes)

    def rebuild(self, partition: int = 0, fences: Mapping[str, Fence] | None = None) -> None:
        """Bring every view to the applied positions of its streams from their history: after power loss, for a new view.
        `fences` of the streams, as the batches have them.

        Call it before the first batch of the partition. A view that is up to date costs one read.
        """
        ends: dict[str, int] = {}
        histories: dict[str, pl.DataFrame] = {}
        base = base_of(partition)
        for writer in self._writers(partition):
            applied = writer.applied()
            for stream, held in positions_of(writer.layout.view, applied).items():
                end = ends.setdefault(stream, base + position(self._ctx, stream, partition).next_offset)
                if held >= end - 1 or end == base:
                    continue
                LOG.info("view.rebuilding", view=writer.layout.view.name, stream=stream, after=held, upto=end)
                if stream not in histories:
                    own = pl.col("_offset").is_between(base, end, "left")
                    histories[stream] = history(self._ctx, stream).filter(own)
                fence = None if fences is None else fences[stream]
                frame = self._needed(writer, stream, histories).filter(pl.col("_offset") > held)
                for first in range(0, len(frame), CHUNK):
                    part = frame[first : first + CHUNK]
                    self._apply([writer], AppliedBatch(stream, part, int(part["_offset"][-1]) + 1, partition, fence))
                self._apply([writer], AppliedBatch(stream, frame[:0], end, partition, fence))

    def _needed(self, writer: ViewWriter, stream: str, histories: dict[str, pl.DataFrame]) -> pl.DataFrame:
        """The history of the stream without the events that no window reaches any more, or without their reports."""
        view, time = writer.layout.view, writer.layout.stream.time
        frame = histories[stream]
        events = histories.get(view.stream)
        newest = None if events is None else events[time].to_physical().max()
        if events is None or not isinstance(newest, int) or view.span is None:
            return frame
        old = pl.col(time).to_physical() <= newest - writer.layout.stream.lateness - view.span
        if stream == view.stream:
            return frame.filter(~old)
        assert view.join is not None
        return frame.filter(~pl.col(view.join.on).is_in(events.filter(old)[view.join.on].implode()))

    def positions(self, view: StoredView) -> dict[str, int]:
        """The last applied offset of each stream that the view reads, -1 for none; of several partitions as many as all have
        applied, less one."""
        if (route := route_of(view, self._ctx.specs)).rekeyed:
            layout = StateLayout(view, self._ctx.specs.get(StreamSpec, view.stream), self._ctx.namespace)
            return applied_by_all(self._ctx.online, layout, route)
        partitions = self._ctx.specs.get(StreamSpec, view.stream).partitions
        writers = [(base_of(number), writer) for number in range(partitions) for writer in self._writers(number)]
        same = [(base, writer) for base, writer in writers if writer.layout.view.definition_hash == view.definition_hash]
        found = [(base, positions_of(view, writer.applied())) for base, writer in same]
        return {stream: sum(max(held[stream] + 1 - base, 0) for base, held in found) - 1 for stream in found[0][1]}


def positions_of(view: StoredView, applied: Applied) -> dict[str, int]:
    """`{stream: last applied offset}` of the streams that the view reads."""
    if view.join is None:
        return {view.stream: applied.stream}
    return {view.stream: applied.stream, view.join.report: applied.report}
