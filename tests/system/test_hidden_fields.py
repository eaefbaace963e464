"""A feature hides no field of what asks for it, and the label no other column of the training set."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.kernel.errors import InvalidSystem
from headrace.system.load import load_system

HEAD = """from datetime import datetime
import headrace as hr
system = hr.System("shop")
@system.stream(id="n", key="n", time="at")
class Pay:
    n: int
    at: datetime
    who: str
    amount: float
    label: bool
    who_count_1d: int
@system.stream(id="id", key="person", time="at")
class Visit:
    id: int
    at: datetime
    person: str
"""
FIRST = HEAD.count("\n") + 1
WEEKLY = 'spine=hr.every("1w", key="person"), label=hr.no_event(Visit, by="person", within="7d")'
WRONG = {
    "@system.features\ndef f(amount):\n    return {'n': amount}": "the feature `n`, which features `f` (shop.py:17) gives, "
    "would hide the field of that name of stream `pay` (shop.py:4)",
    "@system.features\ndef f(at): return {'hour': at.astype('datetime64[h]').astype(int)}\n"
    "@system.features\ndef g(hour): return {'person': hour}": "the feature `person`, which features `g`",
    "system.windows(Pay, by='who', over=['1d'], count=hr.count())": "the feature `who_count_1d`, which view `who` (shop.py:17)",
    "@system.features\ndef f(amount): return {'m': amount}\n@system.stream(id='m', key='m', time='at')\n"
    "class Late:\n    m: int\n    at: datetime\n    amount: float": "which features `f` (shop.py:17) gives, would hide",
    "seen = system.windows(Visit, by='person', over=['1d'], n=hr.count())\n"
    f"@system.model(features=[seen], {WEEKLY})\ndef m(rows, labels): ...\n"
    "class Question:\n    person: str\n    person_n_1d: float\nsystem.service(m, request=Question, key='person')":
        "the feature `person_n_1d`, which view `person` (shop.py:17) gives, would hide the field of that name of the request",
    "@system.features\ndef f(person): return {'label': person == 'me'}\n"
    f"@system.model(features=[f], {WEEKLY})\ndef m(rows, labels): ...": "the feature `label` would be in the training",
    "@system.model(features=['label'], spine=Pay, label=hr.no_event(Pay, by='n', within='7d'))\n"
    "def m(rows, labels): ...": "the feature `label` would be",
    "@system.model(features=['amount'], spine=hr.every('1w', key='label'), label=hr.no_event(Pay, by='label', within='7d'))\n"
    "def m(rows, labels): ...": "feature `amount` is no field of the asking row",
    "seen = system.windows(Pay, by=(), over=['1d'], n=hr.count())\n"
    "@system.model(features=[seen], spine=hr.every('1w', key='label'), label=hr.no_event(Pay, by='label', within='7d'))\n"
    "def m(rows, labels): ...": "the key `label` would be in the training set beside the label",
    "@system.features\ndef f(amount): return {'_own': amount}": "begins with `_`",
}  # fmt: skip


def load(tmp_path: Path, statement: str) -> None:
    file = tmp_path / "shop.py"
    file.write_text(f"{HEAD}{statement}\n")
    load_system(str(file))


@pytest.mark.parametrize("statement", WRONG)
def test_what_would_be_hidden_is_named_with_its_line(tmp_path: Path, statement: str) -> None:
    with pytest.raises(InvalidSystem) as caught:
        load(tmp_path, statement)
    place, _, message = caught.value.message.partition(": ")
    assert WRONG[statement] in message
    assert FIRST <= int(place.removeprefix("shop.py:")) <= FIRST + statement.count("\n")
    assert caught.value.hint


def test_fields_as_features_and_names_of_fields_of_streams_that_cannot_ask_are_taken(tmp_path: Path) -> None:
    taken = "@system.features\ndef f(amount): return {'person': amount}\n"
    taken += "@system.model(features=['amount', 'who_count_1d', f], spine=Pay, label=hr.no_event(Pay, by='n', within='7d'))\n"
    load(tmp_path, taken + "def m(rows, labels): ...\nsystem.service(m, request=Pay)")
