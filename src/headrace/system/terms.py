"""The terms of declarations: aggregates of windows, labels, spines. They name streams by their classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from headrace.features.types import Aggregate, Label, SnapshotSpine
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.ids import snake_case
from headrace.kernel.times import duration
from headrace.system.places import declared_at, standing_at

STREAM_NAMES: WeakKeyDictionary[type, str] = WeakKeyDictionary()
"""Declared stream classes with the names of their streams."""


def _name_of(stream: type) -> str:
    """The name under which the class was declared; a class that was not gets its own, and is refused on use."""
    if not isinstance(stream, type):
        raise InvalidSystem(f"{declared_at()}: `{stream!r}` is not the class of a stream",
                            hint="give the class that @system.stream declares")  # fmt: skip
    return STREAM_NAMES.get(stream, snake_case(stream.__name__))


def count(column: None = None, *, empty: float | None = None) -> Aggregate:
    """The number of events in the window; 0 for none. Int64."""
    if column is not None:
        raise InvalidSystem(f"{declared_at()}: hr.count({column!r}) names a column, and counts events",
                            hint=f"hr.count(), or hr.distinct({column!r}) for the number of its values")  # fmt: skip
    return Aggregate("count", empty=empty)


def _of_column(kind: Any) -> Callable[..., Aggregate]:
    def make(column: str, *, empty: float | None = None) -> Aggregate:
        if not isinstance(column, str):
            raise InvalidSystem(f"{declared_at()}: hr.{kind}({column!r}) names no column", hint=f'hr.{kind}("amount")')
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


def keys_of(by: str | tuple[str, ...], where: str) -> tuple[str, ...]:
    """The names of fields as a tuple; InvalidSystem for what is none."""
    if isinstance(by, str):
        return (by,)
    if not isinstance(by, list | tuple) or not all(isinstance(name, str) for name in by):
        raise InvalidSystem(f"{where}: by={by!r} is neither the name of a field nor a tuple of names",
                            hint='by="customer", by=("shop", "customer"), or by=() for all events together')  # fmt: skip
    return tuple(by)


def span(text: str) -> int:
    """Microseconds of the duration that a term is given; InvalidSystem for what is none."""
    with standing_at(declared_at()):
        return duration(text)


def label(report: type, *, on: str, within: str) -> Label:
    """True when a `report` with the same `on` arrives within; inclusive."""
    return Label("label", _name_of(report), (on,), span(within))


def no_event(stream: type, *, by: str | tuple[str, ...], within: str) -> Label:
    """True when no event of the key arrives within: churn."""
    return Label("no_event", _name_of(stream), keys_of(by, declared_at()), span(within))


def value(stream: type, column: str, *, on: str, within: str) -> Label:
    """`column` of the event with the same `on` that arrives within, inclusive; of several the last, which corrects the others.

    Rows without one, or where it is null, are not trainable."""
    return Label("value", _name_of(stream), (on,), span(within), column)


def value_after(stream: type, column: str, *, by: str | tuple[str, ...], after: str) -> Label:
    """`column` of the key's first event at or after the asking time + `after`: forecasts.

    Rows without one, or where it is null, are not trainable."""
    return Label("value_after", _name_of(stream), keys_of(by, declared_at()), span(after), column)


def future(stream: type, aggregate: Aggregate, *, by: str | tuple[str, ...], within: str) -> Label:
    """`aggregate` over the key's events after the asking time and within, the end included.

    Rows where it is null (a mean of nothing, unless `empty=` says what it is) are not trainable."""
    return Label("future", _name_of(stream), keys_of(by, declared_at()), span(within), aggregate=aggregate)


def every(period: str, *, key: str | tuple[str, ...]) -> SnapshotSpine:
    """Asking points every `period` for each known value of `key`; the stream is the label's."""
    if not key or not isinstance(key, str | list | tuple):
        raise InvalidSystem(f"{declared_at()}: key={key!r} of hr.every names no field, for each value of which would be asked",
                            hint='hr.every("1w", key="customer")')  # fmt: skip
    return SnapshotSpine("", keys_of(key, declared_at()), span(period))


def rate(at_most: str, where: str) -> tuple[int, int]:
    """(number, microseconds) of such as `1/day`, `2/7d`."""
    number, _, period = str(at_most).partition("/")
    words = {"hour": "1h", "day": "1d", "week": "7d", "month": "30d"}
    if not number.isdigit() or not int(number):
        raise InvalidSystem(f'{where}: at_most=`{at_most}` is not such as "1/day"', hint='write "2/7d"')
    return int(number), span(words.get(period, period))


def approval(approve: str, where: str) -> Literal["auto", "person"]:
    if approve not in ("auto", "person"):
        raise InvalidSystem(f"{where}: approve=`{approve}`; allowed: `auto`, `person`", hint="choose one")
    return "auto" if approve == "auto" else "person"
