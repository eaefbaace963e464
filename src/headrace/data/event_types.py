"""The types by which msgspec decodes an event at once when it fulfils its contract."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import polars as pl

from headrace.data.checking import HIGHEST, LOWEST
from headrace.data.types import Field, OneOf, Pattern, Range
from headrace.kernel.times import DAY, EPOCH, FIRST_TIME, LAST_TIME, SECOND


def micros(moment: Any) -> int:
    """Microseconds of a decoded time: epoch milliseconds or a datetime, naive is UTC."""
    if type(moment) is int:
        return moment * 1000
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=EPOCH.tzinfo)
    delta = moment - EPOCH
    return int(delta.days * DAY + delta.seconds * SECOND + delta.microseconds)


def fast_type(field: Field) -> Any:
    """The type whose values all fulfil the field's contract; some valid texts may be left to the slow path."""
    one_of = next((rule.values for rule in field.rules if isinstance(rule, OneOf)), None)
    span = next((rule for rule in field.rules if isinstance(rule, Range)), Range())
    regex = next((rule.regex for rule in field.rules if isinstance(rule, Pattern)), None)
    kind: Any
    if field.type == "int":
        low = LOWEST if span.min is None else max(LOWEST, math.ceil(span.min))
        high = HIGHEST if span.max is None else min(HIGHEST, math.floor(span.max))
        kind = Annotated[int, msgspec.Meta(ge=low, le=high)]
    elif field.type == "float":
        kind = Annotated[float, msgspec.Meta(ge=span.min, le=span.max)]
    elif field.type == "str":
        kind = str if regex is None else Annotated[str, msgspec.Meta(pattern=rf"\A(?:{regex})\Z")]
    else:
        milliseconds = Annotated[int, msgspec.Meta(ge=FIRST_TIME // 1000, le=LAST_TIME // 1000)]
        kind = bool if field.type == "bool" else datetime | milliseconds
    if one_of is not None and len(field.rules) == 1:
        kind = Literal[one_of]
    elif one_of is not None:
        kind = datetime  # a mix of rules that msgspec cannot express: nothing is decoded fast
    return kind | None if field.nullable else kind


def time_column(name: str, moments: list[Any]) -> pl.Series:
    """Int64 microseconds; epoch milliseconds, as imports write them, are converted all at once."""
    if set(map(type, moments)) == {int}:
        return pl.Series(name, np.array(moments, np.int64) * 1000)
    return pl.Series(name, [None if moment is None else micros(moment) for moment in moments], dtype=pl.Int64)
