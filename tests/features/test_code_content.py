"""What a definition hash depends on: all that a function computes, and nothing else."""

from __future__ import annotations

import sys

import pytest
from test_rebuild import NOW, append, apply, payment

from headrace.engines.open import open_context
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.types import FeatureSet, RequestFeatures, WindowView, stored_views
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.settings import Settings
from headrace.system.load import load_system

FILE = """
import functools, dataclasses, enum
from datetime import datetime
import headrace as hr
import numpy as np
import neighbour
from neighbour import beyond
LIMIT = 10
TEN = np.frompyfunc(lambda x: 10.0, 1, 1)
TABLE = {"a": [1, 2.5], "b": np.array([1, 2])}
NAMES = {"x", "y"}
class Kind(enum.Enum):
    LOW = 1
    HIGH = LIMIT
@dataclasses.dataclass(frozen=True)
class Scale:
    by: float
    def of(self, x):
        return x * self.by * FACTOR
SCALE, FACTOR = Scale(2.0), 3
def maker(most):
    def inner(x):
        return x < most
    return inner
below = maker(7)
@functools.lru_cache
def cached(n):
    return n + 1
def even(n):
    return True if n == 0 else odd(n - 1)
def odd(n):
    return False if n == 0 else even(n - 1)
system = hr.System("shop")
@system.stream(id="id", key="a", time="at", name="pay")
class Pay:
    id: int
    at: datetime
    a: int
    b: str | None
    x: float | None
    y: int | None
    flag: bool
    word: str | None
def count(where, name):
    return system.windows(Pay, by="a", over=["1h"], name=name, n=hr.count(), where=where)
plain = count(lambda x: x > LIMIT, "plain")
lines = system.windows(
    Pay, by="a", over=["1h"], name="lines", n=hr.count(),
    where=lambda x, a: (x > 1)
    & (a < 5),
)
helped = count(lambda x: beyond(x) & (x > neighbour.LEAST), "helped")
closed = count(below, "closed")
def over(x, *, least=3):
    return x > least
given = count(lambda x: over(x), "given")
@system.features
def made(x):
    '''Documented.'''
    # commented
    high = [value for value in TABLE["a"] if value > len(NAMES)]
    return {"made": SCALE.of(x) * cached(1) + (Kind.LOW.value if even(2) else LATER) + sum(high)}
LATER = 5
"""
NEIGHBOUR = """
LEAST = 2
UNREAD = 1
def beyond(x):
    return x > least()
def least():
    return 1
"""
CHANGES = {
    "LIMIT = 10": ("LIMIT = 1", ["plain", "made"]),
    "(a < 5)": ("(a < 6)", ["lines"]),
    "return 1": ("return 2", ["helped"]),
    "LEAST = 2": ("LEAST = 3", ["helped"]),
    "maker(7)": ("maker(8)", ["closed"]),
    "least=3": ("least=4", ["given"]),
    "2.5]": ("3.5]", ["made"]),
    "np.array([1, 2])": ("np.array([1, 3])", ["made"]),
    '"x", "y"': ('"x", "z"', ["made"]),
    "LOW = 1": ("LOW = 2", ["made"]),
    "Scale(2.0)": ("Scale(3.0)", ["made"]),
    "FACTOR = Scale(2.0), 3": ("FACTOR = Scale(2.0), 4", ["made"]),
    "* self.by": ("/ self.by", ["made"]),
    "n + 1": ("n + 2", ["made"]),
    "False if n == 0": ("True if n == 0", ["made"]),
    "LATER = 5": ("LATER = 6", ["made"]),
    "sum(high)": ("max(high)", ["made"]),
    "UNREAD = 1": ("UNREAD = 2", []),
    "'''Documented.'''": ("'''Otherwise documented.'''", []),
    "# commented": ("# commented\n", []),
    "def made(x):": ("def made(x: object) -> dict[str, object]:", []),
    "lambda x: x > LIMIT": ("lambda x: (x >\n    LIMIT)", []),
    '{"x", "y"}': ('{"y", "x"}', []),
    "def cached(n):": ("def cached(\n    n,\n):", []),
}


def loaded(folder, old, new):
    """The declarations of the file where `new` stands for `old`, in it or its neighbour."""
    folder.mkdir()
    (folder / "neighbour.py").write_text(NEIGHBOUR.replace(old, new))
    (folder / "shop.py").write_text(FILE.replace(old, new))
    try:
        return load_system(str(folder / "shop.py")).specs()
    finally:
        del sys.modules["neighbour"]


def hashes(specs):
    return {one.name: one.definition_hash for one in [*specs.all(WindowView), *specs.all(RequestFeatures)]}


def test_a_hash_changes_with_what_is_computed_and_with_nothing_else(tmp_path):
    before = hashes(loaded(tmp_path / "before", "nothing", "nothing"))
    assert len(set(before.values())) == 6
    for number, (old, (new, changed)) in enumerate(CHANGES.items()):
        assert old in FILE + NEIGHBOUR
        after = hashes(loaded(tmp_path / str(number), old, new))
        assert [name for name, digest in before.items() if after[name] != digest] == changed, old


def test_state_of_another_limit_is_not_read(tmp_path):
    found = []
    for specs in (loaded(tmp_path / "before", "no", "no"), loaded(tmp_path / "after", "LIMIT = 10", "LIMIT = 1")):
        ctx = open_context(Settings(data=tmp_path / "data"), "shop", specs, clock=FixedEventClock(NOW))
        views = OnlineViews(ctx, stored_views(specs))
        views.rebuild()
        if not found:
            append(ctx, "pay", [payment(number, number) | {"a": 0} for number in range(50)])
            apply(ctx, views, ("pay",))
        features = FeatureSet((specs.get(WindowView, "plain"),))
        found.append(
            FeatureReader(ctx.online, ctx.namespace, features, specs).read(payment(99, 60) | {"a": 0}, 60, None).values[0]
        )
        ctx.close()
    assert found == [0, 39]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LIMIT = 10", "class Most:\n    __lt__ = __gt__ = lambda self, x: x > 1\nLIMIT = Most()", "reads `LIMIT`, a Most"),
        ("below = maker(7)", "below = eval('lambda x: x > 1')", "source of `where` of view `closed` .shop.py:[0-9]*. is in no"),
        ("x > LIMIT", "x > TEN(x)", "reads `TEN`, a ufunc"),
    ],
)
def test_what_has_no_value_is_refused(tmp_path, old, new, message):
    with pytest.raises(InvalidSystem, match=message):
        loaded(tmp_path / "shop", old, new)
