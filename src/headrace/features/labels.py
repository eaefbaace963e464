"""Labels of asking points: what becomes known within their horizon, and whether that horizon is over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.codes import key_codes
from headrace.features.frames import AskingPoints, frame_of, view_series, view_values
from headrace.features.timeline import ALWAYS, Events, Timeline
from headrace.features.types import Label, WindowView
from headrace.kernel.specs import Specs


def label_rows(
    label: Label, asking: pl.DataFrame, frames: Mapping[str, pl.DataFrame], specs: Specs, *, known_at: int
) -> tuple[pl.Series, np.ndarray]:
    """(value [n], trainable bool [n]) of the asking points, all read from every event of `frames`.

    Values are Int8 for label and no_event, of the column's type for value and value_after, of the aggregate's for future,
    null where there is none. A row is trainable when its horizon is over, t + within <= known_at, whatever its value, and its
    value is no null; value_after also needs the event that it takes to have a time <= known_at. A row whose key has a null
    part has no key: it matches nothing.
    """
    until = asking["_at"].to_physical().to_numpy() + label.within
    over = until <= known_at
    if label.kind == "future":
        value = _aggregated(label, asking, until, frames, specs)
        return value, over & value.is_not_null().to_numpy()
    matches = _Matches(label, asking, frames, specs)
    if label.is_binary:
        after = until - label.within - (label.kind == "label")
        found = matches.places(until) > matches.places(after)
        return pl.Series("label", found if label.kind == "label" else ~found, dtype=pl.Int8), over
    if label.kind == "value":
        place = matches.places(until) - 1
        found = place >= matches.places(until - label.within - 1)
    else:
        place = matches.places(until - 1)
        found = place < matches.ends()
        over = over & (matches.times(place, found) <= known_at)
    value = matches.values(place, found)
    return value, over & value.is_not_null().to_numpy()


def known_frames(label: Label, frames: Mapping[str, pl.DataFrame], known_at: int) -> dict[str, pl.DataFrame]:
    """The frames with what had been created by `known_at` of the label's stream: what is told later, however old it is, was
    not known to whoever trained then."""
    return {**frames, label.stream: frame_of(frames, label.stream).filter(pl.col("_created") <= known_at)}


class _Matches:
    """The events of the label's stream, ordered by (key, time, offset), and the keys that ask for them."""

    def __init__(self, label: Label, asking: pl.DataFrame, frames: Mapping[str, pl.DataFrame], specs: Specs) -> None:
        stream = specs.get(StreamSpec, label.stream)
        events = frame_of(frames, stream.name)
        key, asked = key_codes(
            [events[name] for name in label.keys], [asking[name] for name in label.keys], len(events), len(asking)
        )
        self._asked = np.minimum(asked, int(key.max(initial=-1)) + 1)
        kept = np.flatnonzero(key >= 0)
        offset = events["_offset"].to_numpy()[kept]
        if len(offset) and not bool(np.all(offset[1:] > offset[:-1])):
            kept = kept[np.argsort(offset, kind="stable")]
        time = events[stream.time].to_physical().to_numpy()
        self._timeline = Timeline(Events(key[kept], time[kept], kept, {}))
        self._column = events[label.column or stream.id]

    def places(self, until: np.ndarray) -> np.ndarray:
        """For each asking row the place after its key's last event with a time <= until."""
        return self._timeline.after(self._asked, until)

    def ends(self) -> np.ndarray:
        """For each asking row the place after its key's last event."""
        newest = int(self._timeline.events.time.max(initial=0))
        return self.places(np.broadcast_to(newest, len(self._asked)))

    def times(self, place: np.ndarray, found: np.ndarray) -> np.ndarray:
        """The time of the event at each place, `ALWAYS` where none was found."""
        times = self._timeline.events.time
        return np.where(found, times.take(place, mode="clip"), ALWAYS) if len(times) else np.full(len(place), ALWAYS)

    def values(self, place: np.ndarray, found: np.ndarray) -> pl.Series:
        """The label's column of the event at each place, null where none was found."""
        rows = self._timeline.events.offset
        if not len(rows):
            return pl.Series("label", [None] * len(place), dtype=self._column.dtype)
        index = pl.Series(rows.take(place, mode="clip")).set(pl.Series(~found), None)
        return self._column.gather(index).alias("label")


def _aggregated(
    label: Label, asking: pl.DataFrame, until: np.ndarray, frames: Mapping[str, pl.DataFrame], specs: Specs
) -> pl.Series:
    """The aggregate over (t, t + within]: a window that is asked when it is over, and sees every event."""
    assert label.aggregate is not None
    window = (("horizon", label.within),)
    view = WindowView("label", label.stream, label.keys, window, (("value", label.aggregate),))
    none = np.full(len(until), -1, np.int64)
    everything = np.full(len(until), ALWAYS)
    points = AskingPoints(asking, until, everything, none, everything, none >= 0)
    (series,) = view_series(view, view_values(view, points, frames, specs), specs)
    return series.alias("label")
