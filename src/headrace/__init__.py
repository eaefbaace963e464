"""headrace: the complete production AI system; one file declares it, one command runs it.

Importing does no I/O and loads no heavy library: the names below are loaded on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "System": "system.declarations",
    "connect": "app.connection",
    **dict.fromkeys(("count", "sum", "mean", "min", "max", "std", "last", "first", "distinct", "share"), "system.terms"),
    **dict.fromkeys(("label", "no_event", "value", "value_after", "future", "every"), "system.terms"),
    **dict.fromkeys(("folder", "query"), "system.source_terms"),
    **dict.fromkeys(("check", "fresh", "unique", "volume"), "system.expectation_terms"),
    **dict.fromkeys(("From", "NotNull", "Range", "OneOf", "Pattern", "Personal"), "data.types"),
    **dict.fromkeys(("shadow", "canary", "probation"), "system.release_terms"),
    **dict.fromkeys(("psi", "js", "drift_score"), "monitoring.types"),
}

if TYPE_CHECKING:
    from headrace.app.connection import connect
    from headrace.data.types import From, NotNull, OneOf, Pattern, Personal, Range
    from headrace.monitoring.types import drift_score, js, psi
    from headrace.system.declarations import System
    from headrace.system.expectation_terms import check, fresh, unique, volume
    from headrace.system.release_terms import canary, probation, shadow
    from headrace.system.source_terms import folder, query
    from headrace.system.terms import (
        count,
        distinct,
        every,
        first,
        future,
        label,
        last,
        max,
        mean,
        min,
        no_event,
        share,
        std,
        sum,
        value,
        value_after,
    )

__all__ = [
    "From", "NotNull", "OneOf", "Pattern", "Personal", "Range", "System", "canary", "check", "connect", "count", "distinct",
    "drift_score", "every", "first", "folder", "fresh", "future", "js", "label", "last", "max", "mean", "min", "no_event",
    "probation", "psi", "query", "shadow", "share", "std", "sum", "unique", "value", "value_after", "volume",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module `headrace` has no `{name}`")
    value = getattr(importlib.import_module(f"headrace.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
