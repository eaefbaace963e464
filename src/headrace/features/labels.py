"""Labels of asking points: what becomes known within their horizon, and whether that horizon is over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.codes import key_codes
from headrace.features.frames import frame_of
from headrace.features.timeline import Events, Timeline
from headrace.features.types import Label, ReportLabel
from headrace.kernel.specs import Specs


def label_stream(label: Label) -> str:
    """The stream whose events decide the label."""
    return label.report if isinstance(label, ReportLabel) else label.stream


def label_rows(
    label: Label, asking: pl.DataFrame, frames: Mapping[str, pl.DataFrame], specs: Specs, *, known_at: int
) -> tuple[np.ndarray, np.ndarray]:
    """(value int8 [n], trainable bool [n]) of the asking points.

    A report label is 1 when a report has a time in [t, t + within], both ends included; a no-event label is 1 when no event
    of the key has a time in (t, t + within]. A row is trainable when t + within <= known_at, whatever its value.
    """
    at = asking["_at"].to_physical().to_numpy()
    stream = specs.get(StreamSpec, label_stream(label))
    events = frame_of(frames, stream.name)
    on = label.on if isinstance(label, ReportLabel) else label.by
    key, asked = key_codes([events[on]], [asking[on]], len(events), len(asking))
    time = events[stream.time].to_physical().to_numpy()
    known = key >= 0
    timeline = Timeline(Events(key[known], time[known], events["_offset"].to_numpy()[known], {}))
    until = timeline.after(asked, at + label.within)
    before = timeline.after(asked, at - 1 if isinstance(label, ReportLabel) else at)
    value = until > before if isinstance(label, ReportLabel) else until == before
    return value.astype(np.int8), at + label.within <= known_at
