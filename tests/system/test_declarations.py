"""A system file that is wrong names the declaration and its line; what is unknown lists what is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.data.types import StreamSpec
from headrace.features.types import EventSpine, SnapshotSpine, WindowView
from headrace.kernel.errors import InvalidSystem, NotFound
from headrace.kernel.times import DAY
from headrace.serving.types import ServiceSpec
from headrace.system.load import load_system
from headrace.training.types import ModelSpec

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = """from datetime import datetime
from typing import Annotated
import headrace as hr
system = hr.System("shop")
@system.stream(id="order_id", key="customer", time="at")
class Order:
    order_id: int
    at: datetime
    customer: str
    amount: float
@system.stream(id="order_id", key="order_id", time="at")
class Refund:
    order_id: int
    at: datetime
refundable = system.join(Order, Refund, on="order_id")
LABEL = hr.label(Refund, on="order_id", within="7d")
@system.model(features=["amount"], label=LABEL)
def silent(rows, labels): ...
score = system.service(silent, request=Order, name="score")
"""
FIRST = HEAD.count("\n") + 1
"""The line of the first statement after the head."""


def load(tmp_path: Path, text: str, name: str = "") -> object:
    file = tmp_path / "shop.py"
    file.write_text(text)
    return load_system(f"{file}{name}")


WRONG = {
    "system = hr.System('Shop')": "cannot name a system",
    "@system.stream(id='nr', key='customer', time='at')\nclass A:\n    at: datetime\n    customer: str": "id=`nr`",
    "@system.stream(id='a', key='a', time='a')\nclass A:\n    a: int": "time=`a` of type `int`",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: dict\n    at: datetime": "`A.a` is annotated",
    "@system.stream(id='a', key='a', time='at')\nclass A: pass": "no typed fields",
    "@system.stream(id='a', key='a', time='at', name='order')\nclass A:\n    a: int\n    at: datetime": "declared twice",
    "@system.stream(id='a', key='a', time='at', lateness='soon')\nclass A:\n    a: int\n    at: datetime": "not a duration",
    "@system.stream(id='a', key='a', time='t')\nclass A:\n    t: datetime\n    a: Annotated[str, hr.Personal('t')]": "retenti",
    "hr.label(Refund, on='order_id', within='7')": "not a duration",
    "system.join(Order, Refund, on='amount')": "no field `amount` to join on",
    "system.join(Order, dict, on='order_id')": "not a stream of this system; declared: `order`, `refund`",
    "system.windows(Order, by='cust', over=['7d'], n=hr.count())": "no field `cust`",
    "system.windows(Order, by='customer', over=['7d'])": "at least one window and one aggregate",
    "system.windows(Order, by='customer', over=['7 days'], n=hr.count())": "not a duration",
    "system.windows(Order, by='customer', over=['7d'], n=hr.mean('customer'))": "which is `str`",
    "system.windows(Order, by='customer', over=['7d'], n=hr.mean('amonut'))": "has order_id, at, customer, amount",
    "system.windows(Order, by='customer', over=['7d'], n=hr.share(Refund))": "not over a stream joined with it",
    "system.windows(Order, by='customer', over=['7d'], n=len)": "is not an aggregate",
    "system.windows(Order, by='customer', over=['7d'], where=lambda amonut: amonut > 1, n=hr.count())": "no field `amonut`",
    "system.windows(Order, by='customer', over=['0d'], n=hr.count())": "not a duration",
    "system.windows(Order, by='customer', over=['1000000d'], n=hr.count())": "not a duration",
    "system.windows(Order, by='customer', over='7d', n=hr.count())": "not a list of different windows",
    "system.windows(Order, by='customer', over=['7d', '7d'], n=hr.count())": "not a list of different windows",
    "system.windows(Order, by='customer', over=['7d', '1h'], resolution='2h', n=hr.count())": "longer than the window 1h",
    "system.windows(Order, by='customer', over=['7d'], resolution='hourly', n=hr.count())": "not a duration",
    "system.windows(Order, by='customer', over=['7d'], delay='1d', own_event=True, n=hr.count())": "cannot hold the asking",
    "@system.model(features=[], label=LABEL)\ndef m(rows, labels): ...": "model `m` has no features",
    "@system.model(features='amount', label=LABEL)\ndef m(rows, labels): ...": "is not a list",
    "@system.model(features=['amount', 'amount'], label=LABEL)\ndef m(rows, labels): ...": "feature `amount` twice",
    "@system.model(features=['amount'], label=LABEL)\ndef m(rows): ...": "it takes rows",
    "@system.model(features=['amount'], label=LABEL, parameters={'d': 1})\ndef m(rows, labels): ...": "rows, labels, d",
    "@system.model(features=['amount'], label=LABEL, search={'d': 1})\ndef m(rows, labels, *, d=1): ...": "no space",
    "@system.model(features=['amount'], label=LABEL, search={'d': (2, 1)})\ndef m(rows, labels, *, d=1): ...": "no space",
    "@system.model(features=['amount'], label='fraud', spine=Order)\ndef m(rows, labels): ...": "is not a label",
    "@system.model(features=['amount'], label=hr.label(Refund, on='nr', within='7d'))\ndef m(rows, labels): ...": "by `nr`",
    "@system.model(features=['amount'], label=hr.no_event(Order, by='order_id', within='7d'))\ndef m(rows, labels): ...": "cle",
    "@system.model(features=['at'], spine=hr.every('1w', key='custmr'), label=hr.no_event(Order, by='customer', within='7d'))\n"
    "def m(rows, labels): ...": "asks for each `custmr`",
    "@system.model(features=['amount', 'amonut'], label=LABEL)\ndef m(rows, labels): ...": "feature `amonut`",
    "@system.model(features=['customer'], label=LABEL)\ndef m(rows, labels): ...": "a model takes numbers",
    "@system.model(features=[len], label=LABEL)\ndef m(rows, labels): ...": "not a feature of this system",
    "@system.model(features=['amount'], label=LABEL, search={'depth': (1, 2)})\ndef m(rows, labels): ...": "labels, depth",
    "@system.features\ndef f(amount):\n    return {'x': amount + missing}": "fails on sample rows",
    "system.service(len, request=Order)": "`len` is not a model of this system; declared: `silent`",
    "system.service(silent, request=Refund)": "the request of service `silent` has no field `amount`",
    "class Question:\n    amount: float\nsystem.service(silent, request=Question, name='q', appends=Refund)": "`order_id`, "
    "which the request does not have",
    "class Question:\n    amount: float\n    order_id: str\n    at: datetime\n"
    "system.service(silent, request=Question, name='q', appends=Refund)": "which is `int` there and `str` in the request",
    "class Question:\n    amount: float\n    order_id: int | None\n    at: datetime\n"
    "system.service(silent, request=Question, name='q', appends=Refund)": "may be null in the request and not there",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: int\n    at: datetime\n"
    "    b: Annotated[int, hr.From('a')] = 0\nclass Question:\n    amount: float\n    a: int\n    b: int\n    at: datetime\n"
    "system.service(silent, request=Question, name='q', appends=A)": "which an event has as `a`, the name of another field",
    "system.service(silent, request=Order, name='q', appends=dict)": "is not a stream of this system",
    "system.service(silent, request=Order, release='now')": "is not a plan",
    "system.service(silent, request=Order, release=hr.canary(50, 5))": "canary percentages rise",
    "system.watch(silent, retrain_when=hr.psi > 0.2)": "is not a service of this system; declared: `score`",
    "system.watch(score, retrain_when=0.2)": "is not a trigger",
    "system.watch(score, retrain_when=hr.psi > 0.2, at_most='0/day')": "is not such as",
    "for _ in range(2): system.watch(score, retrain_when=hr.psi > 0.2)": "watch `score` is declared twice",
    "system.windows(Order, by='customer', over=['7d'], where=lambda amount: amount.big > 1, n=hr.count())": "`where` fails on",
    "system.windows(Order, by='customer', over=['7d'], where=lambda amount: 0 < amount < 9, n=hr.count())": "`where` fails on",
    "system.windows(Order, by='customer', over=['7d'], where=lambda amount: amount * 2, n=hr.count())": "not a boolean",
    "system.windows(Order, by='customer', over=['7d'], where=lambda amount: [True], n=hr.count())": "not a boolean",
    "system.windows(Order, by='customer', over=['7d'], where='amount > 1', n=hr.count())": "is not a function",
    "system.windows(Order, by='customer', over=['7d'], where=lambda *all: True, n=hr.count())": "has the parameter `*all`",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: int\n    at: datetime\n    f: bool | None\n"
    "system.windows(A, by='a', over=['7d'], name='g', where=lambda f: f, n=hr.count())\n"
    "system.windows(A, by='a', over=['7d'], name='h', where=lambda f, a: f & (a > 1), n=hr.count())": "`where` fails on",
    "system.windows(Order, by='amount', over=['7d'], n=hr.count())": "view `amount` by `amount`, which is `float`",
    "system.windows(Order, by=('customer', 'customer'), over=['7d'], n=hr.count())": "names a field twice",
    "system.windows(Order, by='customer', over=['7d'], n=hr.mean('amount', empty='none'))": "empty='none' and is `float`",
    "system.windows(Order, by='customer', over=['7d'], **{'my count': hr.count()})": "cannot name an aggregate",
    "for name, other in (('a', 'b_n'), ('a_b', 'n')):\n    system.windows(Order, by='customer', over=['7d'], name=name, "
    "**{other: hr.count()})": "gives the feature `a_b_n_7d`, as view `a`",
    "@system.features\ndef f(amount): return {}": "gave {}, not a dict with columns",
    "@system.features\ndef f(amount): return ['a']": "not a dict with columns",
    "@system.features\ndef f(amount): return {'x': amount[:1]}": "not a number for each",
    "@system.features\ndef f(customer): return {'x': customer}": "not a number for each",
    "@system.features\ndef f(amount): return {1: amount}": "which is no name",
    "@system.features\ndef f(amount): return {'amount': amount}": "the column 'amount', which it reads",
    "for f in 'fg':\n    def same(amount): return {'x': 1}\n    same.__name__ = f\n    system.features(same)": "as fea",
    "@system.stream(id='a', key='b', time='at')\nclass A:\n    a: int\n    b: float\n    at: datetime": "key=`b` of type",
    "@system.stream(id='_a', key='_a', time='at')\nclass A:\n    _a: int\n    at: datetime": "names with `_` in front",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    at: datetime\n    a: Annotated[str, hr.Range(0)]": "Range(",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    at: datetime\n    a: Annotated[int, hr.Range(2, 1)]": "no value",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: Annotated[int, hr.OneOf(('b',))]\n    at: datetime": "OneOf(",
    "@system.stream(id='a', key='a', time='t', retention='9d')\nclass A:\n    t: datetime\n"
    "    a: Annotated[str, hr.Personal('b')]": "is personal of `b`",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: int\n    at: datetime\n    order_id: str\n"
    "system.join(Order, A, on='order_id')": "is `int` in `order` and `str` in `a`",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: int\n    at: datetime\n    order_id: str\n"
    "@system.model(features=['amount'], spine=Order, label=hr.label(A, on='order_id', within='7d'))\n"
    "def m(rows, labels): ...": "which is `str` in `a`",
    "@system.stream(id='a', key='a', time='at')\nclass A:\n    a: int\n    at: datetime\n    customer: int\n"
    "view = system.windows(A, by='customer', over=['7d'], n=hr.count())\n"
    "@system.model(features=[view], label=LABEL)\ndef m(rows, labels): ...": "in the asking row `str`",
    "view = system.windows(Refund, by='order_id', over=['7d'], n=hr.count())\n@system.model(features=[view], "
    "spine=hr.every('1w', key='customer'), label=hr.no_event(Order, by='customer', within='7d'))\n"
    "def m(rows, labels): ...": "in the asking row absent",
    "view = system.windows(Order, by='customer', over=['7d'], who=hr.last('customer'))\n"
    "@system.model(features=[view], label=LABEL)\ndef m(rows, labels): ...": "a model takes numbers",
    "@system.model(features=['amount'], label=LABEL, spine='Order')\ndef m(rows, labels): ...": "spine='Order'",
    "@system.model(features=['amount'], label=LABEL, search=['d'])\ndef m(rows, labels, *, d=1): ...": "is not a dict",
    "@system.model(features=['amount'], label=LABEL, evaluate=1)\ndef m(rows, labels): ...": "is not a function",
    "hr.label('Refund', on='order_id', within='7d')": "is not the class of a stream",
    "class Question:\n    amount: str\nsystem.service(silent, request=Question, name='q')": "is trained on as `float`",
    "class Question:\n    amount: float\nsystem.service(silent, request=Question, name='q', key='amount')": "key=`amount`",
    "system.watch(score, retrain_when=hr.psi > float('nan'))": "allowed: 0 or more",
    "system.watch(score, retrain_when=hr.psi > 0.2, train_on='1d', holdout='1d')": "no rows are left to train on",
    "system.watch(score, retrain_when=hr.psi > 0.2, at_most=1)": "not a duration",
    "system.watch(score, retrain_when=hr.psi > 0.2, every=None)": "not a duration",
    "undefined_name": "NameError",
    "1 / 0": "ZeroDivisionError",
    "raise SystemExit(0)": "SystemExit",
}


@pytest.mark.parametrize("statement", WRONG)
def test_a_wrong_declaration_is_named_with_its_line(tmp_path: Path, statement: str) -> None:
    with pytest.raises(InvalidSystem) as caught:
        load(tmp_path, f"{HEAD}{statement}\n")
    place, _, message = caught.value.message.partition(": ")
    file, _, line = place.partition(":")
    assert WRONG[statement] in message
    assert file == "shop.py"
    assert FIRST <= int(line) <= FIRST + statement.count("\n")
    assert caught.value.hint


def test_features_that_read_each_other_are_a_cycle(tmp_path: Path) -> None:
    text = """
@system.features
def first(right):
    return {"left": right}
@system.features
def second(left):
    return {"right": left}
@system.model(features=[first, second], label=LABEL)
def model(rows, labels): ...
"""
    with pytest.raises(InvalidSystem, match=r"`first` -> `second` read each other: a cycle"):
        load(tmp_path, HEAD + text)


def test_a_feature_that_reads_what_nothing_gives_lists_the_known(tmp_path: Path) -> None:
    text = "@system.features\ndef f(amuont):\n    return {'x': amuont}\n"
    text += "@system.model(features=[f], label=LABEL)\ndef model(rows, labels): ...\n"
    with pytest.raises(InvalidSystem, match=r"read `amuont`, which nothing gives; known: .*amount"):
        load(tmp_path, HEAD + text)


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSystem, match=rf"shop\.py:{FIRST}: "):
        load(tmp_path, f"{HEAD}def broken(:\n")


def test_a_file_declares_one_system_or_says_which(tmp_path: Path) -> None:
    two = "import headrace as hr\na = hr.System('a')\nb = hr.System('b')\n"
    with pytest.raises(InvalidSystem, match="declares 2 systems: a, b"):
        load(tmp_path, two)
    with pytest.raises(NotFound, match="unknown system `c`; known: `a`, `b`"):
        load(tmp_path, two, ":c")
    assert load(tmp_path, two, ":b").name == "b"  # type: ignore[attr-defined]
    with pytest.raises(InvalidSystem, match="declares 0 systems"):
        load(tmp_path, "import headrace as hr\n")
    with pytest.raises(NotFound, match="no system file"):
        load_system(str(tmp_path / "absent.py"))


def test_the_fraud_example_declares_the_published_features_in_the_published_order() -> None:
    specs = load_system(str(EXAMPLES / "fraud" / "system.py")).specs()
    service = specs.get(ServiceSpec, "scoring")
    windows = [f"{w}d" for w in (1, 7, 30)]
    assert service.model.features.columns == (
        "amount",
        "during_weekend",
        "during_night",
        *(f"customer_{a}_{w}" for w in windows for a in ("count", "mean_amount")),
        *(f"terminal_{a}_{w}" for w in windows for a in ("count", "risk")),
    )
    assert {m.name for m in specs.all(ModelSpec)} == {"logistic", "tree", "forest", "boosting"}
    assert service.model.spine == EventSpine("transaction")
    assert specs.get(WindowView, "terminal").delay == 7 * DAY
    assert len((EXAMPLES / "fraud" / "system.py").read_text().splitlines()) <= 80


def test_the_churn_example_asks_each_customer_once_a_week() -> None:
    specs = load_system(str(EXAMPLES / "churn" / "system.py")).specs()
    model = specs.all(ServiceSpec)[0].model
    assert isinstance(model.spine, SnapshotSpine)
    assert model.spine.period == 7 * DAY
    assert specs.all(StreamSpec)[0].field(*model.spine.keys).type == "str"
    assert model.label.kind == "no_event"


def test_the_definition_of_a_view_has_a_hash_that_follows_what_it_means() -> None:
    specs = load_system(str(EXAMPLES / "fraud" / "system.py")).specs()
    again = load_system(str(EXAMPLES / "fraud" / "system.py")).specs()
    hashes = {v.name: v.definition_hash for v in specs.all(WindowView)}
    assert hashes == {v.name: v.definition_hash for v in again.all(WindowView)}
    assert len(set(hashes.values())) == len(hashes)
