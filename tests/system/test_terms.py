"""A wrong term names its line, also where no system file is loaded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import headrace as hr
from headrace.kernel.errors import InvalidSystem

system = hr.System("shop")


@system.stream(id="n", key="n", time="at")
class Pay:
    n: int
    at: datetime


WRONG: dict[str, Callable[[Any], object]] = {
    "key=() of hr.every names no field": lambda _: hr.every("1d", key=()),
    "key=None of hr.every names no field": lambda none: hr.every("1d", key=none),
    "by=None is neither the name of a field nor a tuple": lambda none: system.windows(Pay, by=none, over=["1d"], n=hr.count()),
    "by=None is neither": lambda none: system.attributes(Pay, by=none, columns=["n"]),
    "by=(1,) is neither": lambda _: hr.no_event(Pay, by=(1,), within="1d"),  # type: ignore[arg-type]
    "hr.count('n') names a column": lambda _: hr.count("n"),  # type: ignore[arg-type]
    "hr.mean(None) names no column": lambda _: hr.mean(None),  # type: ignore[arg-type]
    "`'0s'` is not a duration": lambda _: hr.label(Pay, on="n", within="0s"),
    "`'soon'` is not a duration": lambda _: hr.fresh("soon"),
    "`None` is not a duration": lambda none: hr.every(none, key="n"),
    "`1` is not a duration": lambda _: hr.folder("in", every=1),  # type: ignore[arg-type]
    "`'rep'` is not the class of a stream": lambda _: hr.share("rep"),  # type: ignore[arg-type]
    "over=None is not a list": lambda none: system.windows(Pay, by="n", over=none, n=hr.count()),
    "columns=None is not a list": lambda none: system.attributes(Pay, by="n", columns=none),
    "`'forever'` is not a duration": lambda _: system.stream(id="n", key="n", time="at", name="b", retention="forever")(Pay),
    "two limits of one kind": lambda _: system.stream(id="n", key="n", time="at", name="b", retention="1d, 2d")(Pay),
    "`'1 hour'` is not a duration": lambda _: hr.shadow("1 hour"),
    "`'daily'` is not a duration": lambda _: hr.canary(5, each="daily"),
    "`'a week'` is not a duration": lambda _: hr.probation("a week"),
    "`My Shop` cannot name a system": lambda _: hr.System("My Shop"),
    "`'x'` is not a duration": lambda _: system.stream(id="n", key="n", time="at", name="b", lateness="x")(Pay),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_term_is_named_with_its_line(message: str) -> None:
    wrong = WRONG[message]
    with pytest.raises(InvalidSystem) as caught:
        wrong(None)
    place, _, found = caught.value.message.partition(": ")
    assert message in found
    assert place == f"test_terms.py:{wrong.__code__.co_firstlineno}"
    assert caught.value.hint
