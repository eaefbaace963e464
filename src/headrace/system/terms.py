"""The terms of declarations: aggregates of windows, labels, spines. They name streams by their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from headrace.features.types import Aggregate, Label, SnapshotSpine
from headrace.kernel.errors import HeadraceError, InvalidInput, InvalidSystem
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


def _tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def label(report: type, *, on: str, within: str) -> Label:
    """True when a `report` with the same `on` arrives within; inclusive."""
    return Label("label", _name_of(report), (on,), duration(within))


def no_event(stream: type, *, by: str | tuple[str, ...], within: str) -> Label:
    """True when no event of the key arrives within: churn."""
    return Label("no_event", _name_of(stream), _tuple(by), duration(within))


def value(stream: type, column: str, *, on: str, within: str) -> Label:
    """`column` of the event with the same `on` that arrives within, inclusive; of several the last, which corrects the others.

    Rows without one, or where it is null, are not trainable."""
    return Label("value", _name_of(stream), (on,), duration(within), column)


def value_after(stream: type, column: str, *, by: str | tuple[str, ...], after: str) -> Label:
    """`column` of the key's first event at or after the asking time + `after`: forecasts.

    Rows without one, or where it is null, are not trainable."""
    return Label("value_after", _name_of(stream), _tuple(by), duration(after), column)


def future(stream: type, aggregate: Aggregate, *, by: str | tuple[str, ...], within: str) -> Label:
    """`aggregate` over the key's events after the asking time and within, the end included.

    Rows where it is null (a mean of nothing, unless `empty=` says what it is) are not trainable."""
    return Label("future", _name_of(stream), _tuple(by), duration(within), aggregate=aggregate)


def every(period: str, *, key: str | tuple[str, ...]) -> SnapshotSpine:
    """Asking points every `period` for each known value of `key`; the stream is the label's."""
    return SnapshotSpine("", _tuple(key), duration(period))


def micros(text: str | None, where: str) -> int:
    """Microseconds of a declared duration, 0 for None; InvalidSystem for what is none."""
    try:
        return 0 if text is None else duration(text)
    except HeadraceError as error:
        raise InvalidSystem(f"{where}: {error.message}", hint=error.hint) from None


def rate(at_most: str, where: str) -> tuple[int, int]:
    """(number, microseconds) of such as `1/day`, `2/7d`."""
    number, _, period = str(at_most).partition("/")
    words = {"hour": "1h", "day": "1d", "week": "7d", "month": "30d"}
    if not number.isdigit() or not int(number):
        raise InvalidSystem(f'{where}: at_most=`{at_most}` is not such as "1/day"', hint='write "2/7d"')
    return int(number), micros(words.get(period, period), where)


def approval(approve: str, where: str) -> Literal["auto", "person"]:
    if approve not in ("auto", "person"):
        raise InvalidSystem(f"{where}: approve=`{approve}`; allowed: `auto`, `person`", hint="choose one")
    return "auto" if approve == "auto" else "person"
