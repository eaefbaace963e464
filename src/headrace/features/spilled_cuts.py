"""A part too large for memory, as that of a view without key or of a key with most rows, cut by time.

A value asked at t depends on the events of its key with a time in (t - span, t], and for attributes on the newest earlier
ones that may be known. So the points asked in [low, high) read the events in (low - span, high) and those carried on from
before. Slices, tiles and the order of addition are those of the whole part, hence the bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from headrace.features.memory_budget import PROCESS_BYTES, row_bytes
from headrace.features.spilled_events import SAMPLES, Pieces
from headrace.features.timeline import ALWAYS
from headrace.features.types import StoredView, WindowView
from headrace.kernel.errors import InvalidInput

SLABS = 8
"""Into how many slabs of time the rows of a cut fall, about: the finer, the less is read that no window needs."""
EVENT_AT = "_event_at"
"""The column of reports with the time of their event."""

Tables = dict[str, pl.DataFrame | None]
"""The rows of a part: `events`, `asking` (the points, where they are not all events), and reports by stream."""


@dataclass(frozen=True)
class Part:
    """What is computed at once: about how many rows, and how they are read."""

    rows: int
    read: Callable[[], Tables]


@dataclass(frozen=True)
class Cutting:
    """How parts of `views` are cut: into parts of about `most` rows, of `limit` at most. `times` names the column of time
    of each kind of rows."""

    views: tuple[StoredView, ...]
    times: Mapping[str, str]
    folder: Path
    most: int
    limit: int

    @property
    def span(self) -> int:
        return max((view.span for view in self.views if isinstance(view, WindowView)), default=0)

    @property
    def carries(self) -> bool:
        return not all(isinstance(view, WindowView) for view in self.views)

    def parts(self, pieces: Mapping[str, Pieces], number: int) -> Iterator[Part]:
        """The cuts of the part `number`, whose rows move from `pieces` into slabs of time."""
        self.folder.mkdir(exist_ok=True)
        slabs = Slabs.of(self, pieces, number)
        ranges = self._ranges(slabs)
        carried = self._carried(slabs, ranges, self.folder / f"{number}-carried")
        for place, (first, last, rows) in enumerate(ranges):
            if slabs.asked(first, last):

                def read(place: int = place, first: int = first, last: int = last) -> Tables:
                    return slabs.read(first, last, None if carried is None else carried.read(place))

                yield Part(rows + (0 if carried is None else carried.rows[place]), read)

    def _ranges(self, slabs: Slabs) -> list[tuple[int, int, int]]:
        """(first slab, last slab, rows read) of each cut. Where windows reach far back, cuts grow with what they read of
        the past, so that it is not read again for a few points."""
        events, all_rows = slabs.before("events"), slabs.before("events", "asking")
        found, first = [], 0
        while first < slabs.count:
            past = int(events[first] - events[slabs.earliest(first)])
            target = max(self.most, min(2 * past, self.limit)) - past + int(all_rows[first])
            last = max(int(np.searchsorted(all_rows, target, side="right")) - 2, first)
            rows = past + int(all_rows[last + 1] - all_rows[first])
            if rows > self.limit:
                self._refuse(rows)
            found.append((first, last, rows))
            first = last + 1
        return found

    def _refuse(self, rows: int) -> None:
        widest = max(self.views, key=lambda view: view.span if isinstance(view, WindowView) else 0)
        needed = -(-(rows * row_bytes(self.views) + PROCESS_BYTES) // (1 << 20))
        key = f"one value of {', '.join(f'`{name}`' for name in widest.by)}" if widest.by else "no key"
        raise InvalidInput(
            f"{widest.where}: the windows of view `{widest.name}` hold up to {rows} events of {key} at once, which take about "
            f"{needed} MB, more than `--memory`",
            hint=f"give --memory {needed}MB or more, or shorten `over`",
        )

    def _carried(self, slabs: Slabs, ranges: Sequence[tuple[int, int, int]], folder: Path) -> Pieces | None:
        """By cut: the events before it that an attribute may have as its newest known one."""
        if not self.carries:
            return None
        carried = Pieces(folder, len(ranges))
        state: pl.DataFrame | None = None
        for place, (first, last, _) in enumerate(ranges[:-1]):
            for slab in range(first, last + 1):
                events = slabs.events(slab)
                if events is not None:
                    both = events if state is None else pl.concat([state, events])
                    state = may_be_newest(
                        both, self.views[0].by, self.times["events"], int(slabs.bounds[slab]), slabs.first_position(slab + 1)
                    )
            if state is not None:
                carried.write(place + 1, state)
        return carried


def may_be_newest(frame: pl.DataFrame, by: Sequence[str], time: str, known: int, seen: int) -> pl.DataFrame:
    """The events of which one may be the newest known of its key for points asked at `known` or later, from position `seen`
    on: without those that always have a newer one beside them."""
    key = [pl.col(name) for name in by] or [pl.lit(0)]
    rows = frame.drop_nulls(list(by)) if by else frame
    created = pl.max_horizontal("_created", pl.lit(known, pl.Int64))
    offset = pl.max_horizontal("_offset", pl.lit(seen, pl.Int64))
    rows = rows.sort(time, "_created", "_offset", descending=True)
    newer_offset = pl.when(created == known).then(offset).otherwise(ALWAYS).cum_min().shift(1, fill_value=ALWAYS).over(key)
    newer_created = pl.when(offset == seen).then(created).otherwise(ALWAYS).cum_min().shift(1, fill_value=ALWAYS).over(key)
    return rows.filter((offset < newer_offset) & (created < newer_created))


@dataclass(frozen=True)
class Slabs:
    """The rows of a part by time: slab k holds bounds[k - 1] <= time < bounds[k]."""

    cutting: Cutting
    bounds: np.ndarray
    pieces: Mapping[str, Pieces]

    @classmethod
    def of(cls, cutting: Cutting, pieces: Mapping[str, Pieces], number: int) -> Slabs:
        bounds = _bounds({kind: pieces[kind] for kind in ("events", "asking") if kind in pieces}, number, cutting)
        slabs = {kind: Pieces(cutting.folder / f"{number}-{kind}", len(bounds) + 1) for kind in pieces}
        for kind, given in pieces.items():
            for frame in given.moved(number):
                times = frame[cutting.times[kind]].to_physical().to_numpy()
                slabs[kind].split(frame, np.searchsorted(bounds, times, side="right"))
        return cls(cutting, bounds, slabs)

    @property
    def count(self) -> int:
        return len(self.bounds) + 1

    def before(self, *kinds: str) -> np.ndarray:
        """int64 [count + 1]: rows before each slab, of reports too."""
        chosen = [pieces for kind, pieces in self.pieces.items() if kind != "asking" or "asking" in kinds]
        return np.cumsum([0, *np.sum([pieces.rows for pieces in chosen], axis=0)])

    def earliest(self, first: int) -> int:
        """The first slab that points asked in slab `first` read for windows."""
        span = self.cutting.span
        return first if not first or not span else int(np.searchsorted(self.bounds, self._reach(first) + 1, side="right"))

    def asked(self, first: int, last: int) -> bool:
        pieces = self.pieces.get("asking", self.pieces["events"])
        return any(pieces.rows[first : last + 1])

    def events(self, slab: int) -> pl.DataFrame | None:
        return self._rows("events", slab, slab)

    def first_position(self, slab: int) -> int:
        """The lowest position at which a point of this slab or a later one is asked. Where the points are no events, what is
        known at a time depends on `_created` alone."""
        if "asking" in self.pieces:
            return ALWAYS - 1
        return min((self.pieces["events"].lowest[number] for number in range(slab, self.count)), default=ALWAYS - 1)

    def read(self, first: int, last: int, carried: pl.DataFrame | None) -> Tables:
        """What the points asked in the slabs `first` to `last` need; each table in order of offset."""
        inside = self._rows("events", first, last)
        earliest = self.earliest(first)
        time = pl.col(self.cutting.times["events"]).to_physical()
        older = self._rows("events", earliest, first - 1)
        older = None if older is None else older.filter(time > self._reach(first))
        carried = None if carried is None else carried.filter(time <= self._reach(first))
        found = [frame for frame in (carried, older, inside) if frame is not None]
        tables: Tables = {kind: self._rows(kind, earliest, last) for kind in self.pieces if kind not in ("events", "asking")}
        tables["events"] = pl.concat(found).sort("_offset") if found else None
        tables["asking"] = self._rows("asking", first, last) if "asking" in self.pieces else inside
        return tables

    def _reach(self, first: int) -> int:
        """The time after which windows asked in the slab `first` may begin."""
        return int(self.bounds[first - 1]) - self.cutting.span

    def _rows(self, kind: str, first: int, last: int) -> pl.DataFrame | None:
        frames = [frame for slab in range(first, last + 1) for frame in self.pieces[kind].frames(slab)]
        return pl.concat(frames).sort("_offset") if frames else None


def _bounds(pieces: Mapping[str, Pieces], number: int, cutting: Cutting) -> np.ndarray:
    """Times, growing, that part the rows into slabs."""
    total = sum(given.rows[number] for given in pieces.values())
    step = max(1, total // SAMPLES)
    times = [
        frame[cutting.times[kind]].to_physical().gather_every(step).to_numpy()
        for kind, given in pieces.items()
        for frame in given.frames(number, [cutting.times[kind]])
    ]
    sample = np.sort(np.concatenate(times))
    count = -(-SLABS * total // cutting.most)
    return np.unique(sample[np.arange(1, count) * len(sample) // count])
