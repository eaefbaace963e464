"""What declared windows and attributes must agree with in themselves and with their stream."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from headrace.data.types import StreamSpec
from headrace.features.types import AttributeView, WindowView
from headrace.kernel.errors import InvalidSystem
from headrace.system.resolution import check_aggregate
from headrace.system.stream_terms import check_by
from headrace.system.terms import span


def view_name(name: str | None, keys: Sequence[str]) -> str:
    """The name of a view: as given, else its key columns without a trailing `_id`; a keyless view is `all`."""
    return name or "_".join(keys).removesuffix("_id") or "all"


def text_fields(stream: StreamSpec) -> tuple[str, ...]:
    return tuple(field.name for field in stream.fields if field.type == "str")


def spans(over: Sequence[str], where: str) -> tuple[tuple[str, int], ...]:
    """(label, microseconds) of each window."""
    if not isinstance(over, list | tuple) or len(set(over)) < len(over):
        raise InvalidSystem(f"{where}: over={over!r} is not a list of different windows", hint='over=["1d", "7d"]')
    return tuple((label, span(label)) for label in over)


def check_windows(view: WindowView, stream: StreamSpec) -> None:
    """InvalidSystem unless every column that the view names is there and its windows can hold what they should."""
    where = view.where
    read = [*view.by, *(inspect.signature(view.predicate).parameters if view.predicate else ())]
    _check_fields(read, stream, where, "`by` and the parameters of `where` name fields of the stream")
    if not view.aggregates or not view.over:
        raise InvalidSystem(
            f"{where}: windows over `{stream.name}` need at least one window and one aggregate",
            hint='windows(..., over=["7d"], count=hr.count())',
        )
    check_by(view.name, view.by, stream, where)
    for label, aggregate in view.aggregates:
        check_aggregate(label, aggregate, stream, view.join, where)
    if view.own_event and view.delay:
        raise InvalidSystem(
            f"{where}: windows that end before the asking time cannot hold the asking event",
            hint="leave out `delay=` or `own_event=`",
        )
    label, shortest = min(view.over, key=lambda window: window[1])
    if view.resolution > shortest:
        raise InvalidSystem(
            f"{where}: resolution= is longer than the window {label}, which would begin up to that much earlier",
            hint="choose a resolution of at most the shortest window; a tenth of it is usual",
        )


def check_attributes(view: AttributeView, stream: StreamSpec, columns: Sequence[str]) -> None:
    """InvalidSystem unless there are columns, all different, and the stream has them and the keys."""
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise InvalidSystem(
            f"{view.where}: columns={columns!r} is not a list of different columns",
            hint=f'columns=["{stream.fields[-1].name}"]',
        )
    _check_fields([*view.by, *columns], stream, view.where, "`by` and `columns` name fields of the stream")
    check_by(view.name, view.by, stream, view.where)


def _check_fields(names: Sequence[str], stream: StreamSpec, where: str, hint: str) -> None:
    known = [field.name for field in stream.fields]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InvalidSystem(f"{where}: `{stream.name}` has no field `{unknown}`; it has {', '.join(known)}", hint=hint)
