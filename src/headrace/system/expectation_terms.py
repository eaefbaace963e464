"""The terms of a stream's contract beyond the fields: what holds of whole events, of several, and of the stream."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from headrace.data.types import Check, Fresh, Severity, StreamSpec, Unique, Volume
from headrace.kernel.errors import InvalidSystem
from headrace.system.terms import span


def check(function: Callable[..., Any], *, name: str | None = None, severity: Severity = "quarantine") -> Check:
    """Every event fulfils `function`, over arrays of the fields that its parameters name: `lambda fee, total: fee <= total`."""
    return Check(name or function.__name__, function, severity)


def unique(*columns: str, within: str, severity: Severity = "quarantine") -> Unique:
    """No two events with the same values of `columns` have times less than `within` apart; the later one is refused."""
    return Unique(columns, span(within), severity)


def fresh(within: str) -> Fresh:
    """The newest event of the stream is not older than `within`."""
    return Fresh(span(within))


def volume(per: str, *, low: float = 0.5, high: float = 2.0, over: int = 14) -> Volume:
    """As many events in each period as usual: between `low` and `high` times the median of the `over` periods before."""
    return Volume(span(per), low, high, over)


def check_expectations(spec: StreamSpec) -> None:
    """InvalidSystem for expectations that name no fields, have one name, or cannot be held by several partitions."""
    names = [rule.name for rule in spec.expect]
    known = {field.name for field in spec.fields}
    for rule in spec.expect:
        place = f"{spec.where}: `{rule.name}` of stream `{spec.name}`"
        columns = list(rule.columns) if isinstance(rule, Unique) else []
        if isinstance(rule, Check):
            if not rule.name.isidentifier():
                raise InvalidSystem(f"{place} needs a name", hint='hr.check(lambda fee: fee >= 0, name="fee_is_positive")')
            columns = list(inspect.signature(rule.function).parameters)
        unknown = [column for column in columns if column not in known]
        if unknown or (isinstance(rule, Check | Unique) and not columns):
            raise InvalidSystem(f"{place} reads `{', '.join(unknown)}`, which is no field; it has {', '.join(sorted(known))}",
                                hint="parameters of a check and columns of `unique` name fields")  # fmt: skip
        if names.count(rule.name) > 1:
            raise InvalidSystem(f"{place} is declared twice", hint="give each a name of its own")
        if isinstance(rule, Unique) and spec.partitions > 1 and spec.key not in columns:
            raise InvalidSystem(f"{place} would compare events of several partitions, applied by different processes",
                                hint=f"add `{spec.key}` to its columns, or declare partitions=1")  # fmt: skip
        if isinstance(rule, Volume) and not (0 <= rule.low < rule.high and rule.over >= 3):
            raise InvalidSystem(f"{place}: allowed are 0 <= low < high and over >= 3", hint="mend hr.volume(...)")
