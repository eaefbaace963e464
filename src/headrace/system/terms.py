"""The terms of declarations: aggregates of windows, labels, spines. They name streams by their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from headrace.features.types import Aggregate, NoEventLabel, ReportLabel, SnapshotSpine
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import snake_case
from headrace.kernel.times import duration

STREAM_NAMES: WeakKeyDictionary[type, str] = WeakKeyDictionary()
"""Declared stream classes with the names of their streams."""


def _name_of(stream: type) -> str:
    """The name under which the class was declared; a class that was not gets its own, and is refused on use."""
    if not isinstance(stream, type):
        raise InvalidInput(f"`{stream!r}` is not the class of a stream", hint="give the class that @system.stream declares")
    return STREAM_NAMES.get(stream, snake_case(stream.__name__))


def count(*, empty: float | None = None) -> Aggregate:
    """The number of events in the window; 0 for none. Int64."""
    return Aggregate("count", empty=empty)


def _of_column(kind: Any) -> Callable[..., Aggregate]:
    def make(column: str, *, empty: float | None = None) -> Aggregate:
        return Aggregate(kind, column, empty=empty)

    make.__name__ = str(kind)
    make.__doc__ = f"The {kind} of `column` over the window; nulls are skipped; `empty` is the value over no events."
    return make


sum, mean, min, max, std, last, first, distinct = (
    _of_column(kind) for kind in ("sum", "mean", "min", "max", "std", "last", "first", "distinct")
)


def share(report: type) -> Aggregate:
    """On a joined stream: the share of the windowed events for which a `report` has arrived. Float64."""
    return Aggregate("share", report=_name_of(report))


def label(report: type, *, on: str, within: str) -> ReportLabel:
    """True when a `report` with the same `on` arrives within; inclusive."""
    return ReportLabel(_name_of(report), on, duration(within))


def no_event(stream: type, *, by: str, within: str) -> NoEventLabel:
    """True when no event of the key arrives within: churn."""
    return NoEventLabel(_name_of(stream), by, duration(within))


def every(period: str, *, key: str) -> SnapshotSpine:
    """Asking points every `period` for each known value of `key`; the stream is the label's."""
    return SnapshotSpine("", key, duration(period))
