"""`empty=` is a value that the column of the aggregate holds as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

import headrace as hr
from headrace.kernel.errors import InvalidSystem

NAN, INF = float("nan"), float("inf")


def declare(aggregate: Any) -> None:
    system = hr.System("shop")

    @system.stream(id="n", key="n", time="at")
    class Pay:
        n: int
        at: datetime
        x: float
        y: int
        flag: bool
        word: str

    system.windows(Pay, by="n", over=["1d"], it=aggregate)


@pytest.mark.parametrize(
    "aggregate",
    [
        *(hr.count(empty=empty) for empty in (0.5, 1e300, NAN, 2**63, True)),
        *(hr.min("y", empty=empty) for empty in (INF, 1e300, 0.5, NAN, -(2**63) - 1)),
        *(hr.mean("x", empty=empty) for empty in (NAN, 2**53 + 1, 10**400, False)),
        *(hr.last("flag", empty=empty) for empty in (-1, 0.5, 2, NAN)),
        *(hr.first("word", empty=empty) for empty in (0, -1.0)),
        hr.last("at", empty=0), hr.distinct("word", empty=-0.5), hr.max("flag", empty=2),
    ],
)  # fmt: skip
def test_what_the_column_does_not_hold_is_refused(aggregate: Any) -> None:
    with pytest.raises(InvalidSystem, match=rf"^{__name__}\.py:\d+: `it` has empty=.* and is `\w+`; allowed: ") as caught:
        declare(aggregate)
    assert caught.value.hint


def test_what_it_holds_is_taken() -> None:
    for aggregate in (
        hr.count(empty=-1), hr.count(empty=1.0), hr.min("y", empty=-(2**63)), hr.distinct("word", empty=2**63 - 1),
        hr.mean("y", empty=0), hr.sum("x", empty=-0.5), hr.max("x", empty=-INF), hr.std("x", empty=2**53),
        hr.last("flag", empty=1), hr.first("flag", empty=False),
    ):  # fmt: skip
        declare(aggregate)
