"""Windows by example, each asked in every execution: backfill of events, online from state, and recomputed."""

from __future__ import annotations

import pytest
from scenario import JOIN, PAY, REPORT, bits, expected, frames
from test_online_windows import context, payment

from headrace.data.applying import AppliedBatch
from headrace.engines.online.memory import MemoryOnline
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import Aggregate, EventSpine, FeatureSet, WindowView
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

HOUR = 3_600_000_000
NOON = 1_700_000_000_000_000
KINDS = ("sum", "mean", "min", "max", "std", "first", "last", "distinct")


def view(by=("a",), *, width=HOUR, **options):
    aggregates = (("count", Aggregate("count")), *((kind, Aggregate(kind, "x")) for kind in KINDS))
    return WindowView("v", "pay", by, (("w", width),), aggregates, **options)


def everywhere(view, rows, asked):
    """The values at the row `asked`, which is the last to arrive, by name; the same in all executions and by the oracle."""
    specs, features = Specs((PAY, REPORT, JOIN, view)), FeatureSet((view,))
    rows = [row | {"_offset": number} for number, row in enumerate([*rows, asked])]
    tables, asked = frames(rows, []), rows[-1]
    wanted = expected(view, rows, [], asked, asked["at"], asked["_offset"], asked["_offset"])
    filled = backfill(features, asking_points(EventSpine("pay"), tables, specs)[-1:], tables, specs, spine="pay")
    assert [bits(v) for v in filled.select(view.columns).row(0)] == [bits(v) for v in wanted]
    for arrived in (len(rows) - 1, len(rows)):  # before the asking event came by the stream, and after
        online = MemoryOnline()
        part = tables["pay"][:arrived]
        OnlineViews(context(online, specs), [view]).sink(AppliedBatch("pay", part, arrived))
        reader = FeatureReader(online, Namespace("shop"), features, specs, asking="pay")
        row = reader.read(asked, asked["at"], asked["id"])
        assert [bits(v) for v in row.values.tolist()] == [bits(None if v is None else float(v)) for v in wanted]
        read = LoggedRead(asked, asked["at"], asked["id"], row.positions)
        assert recompute(features, [read], tables, specs, asking="pay")[0].tobytes() == row.values.tobytes()
    return dict(zip((name for name, _ in view.aggregates), wanted, strict=True))


EMPTY = {
    "count": 0,
    "sum": 0.0,
    "mean": None,
    "min": None,
    "max": None,
    "std": None,
    "first": None,
    "last": None,
    "distinct": 0,
}


def test_an_empty_window():
    assert everywhere(view(), [payment(0, NOON - 2 * HOUR)], payment(1, NOON)) == EMPTY
    assert everywhere(view(), [], payment(1, NOON)) == EMPTY
    assert everywhere(view(), [payment(0, NOON, a=2)], payment(1, NOON)) == EMPTY
    assert everywhere(view(), [payment(0, NOON, x=None)], payment(1, NOON)) == EMPTY | {"count": 1}


def test_a_key_of_one_event():
    one = {"count": 1, "sum": 2.5, "mean": 2.5, "min": 2.5, "max": 2.5, "std": None, "first": 2.5, "last": 2.5, "distinct": 1}
    assert everywhere(view(own_event=True), [payment(0, NOON, a=2)], payment(1, NOON, x=2.5)) == one


def test_a_window_that_ends_at_the_last_row_of_all():
    """The last event of the last key, with and without itself: its slice ends where the arrays do."""
    rows = [payment(n, NOON - n, a=n % 2, x=float(n)) for n in range(4, 0, -1)]
    last = payment(9, NOON, a=1, x=100.0)
    assert everywhere(view(own_event=True), rows, last)["sum"] == 104.0
    assert everywhere(view(), rows, last)["sum"] == 4.0


@pytest.mark.parametrize(("age", "inside"), [(HOUR - 1, True), (HOUR, False), (HOUR + 1, False), (0, True), (-1, False)])
def test_both_edges_to_the_microsecond(age, inside):
    """Exactly as old as the window is out; of the asking time is in; one microsecond later is out."""
    assert everywhere(view(), [payment(0, NOON - age)], payment(1, NOON))["count"] == int(inside)


@pytest.mark.parametrize(("age", "inside"), [(60, True), (59, False), (HOUR + 59, True), (HOUR + 60, False)])
def test_both_edges_with_a_delay(age, inside):
    assert everywhere(view(delay=60), [payment(0, NOON - age)], payment(1, NOON))["count"] == int(inside)


def test_minus_zero_is_zero():
    """Also alone, first and last; and it is no value of its own beside 0.0."""
    found = everywhere(view(own_event=True), [payment(0, NOON, x=0.0)], payment(1, NOON, x=-0.0))
    assert [bits(found[kind]) for kind in ("sum", "min", "max", "first", "last", "distinct")] == [bits(0.0)] * 5 + [bits(1)]
    alone = everywhere(view(own_event=True), [], payment(1, NOON, x=-0.0))
    assert {bits(alone[kind]) for kind in ("sum", "mean", "min", "max", "first", "last")} == {bits(0.0)}


def test_two_payments_of_one_customer_in_one_second():
    """The first does not see the second, the second sees the first; each itself only if asked for."""
    first, second = payment(0, NOON, x=1.0), payment(1, NOON, x=2.0)
    assert everywhere(view(own_event=True), [], first)["sum"] == 1.0
    assert everywhere(view(own_event=True), [first], second)["sum"] == 3.0
    assert everywhere(view(), [first], second)["sum"] == 1.0


def test_keys_of_several_columns_are_tuples_and_no_columns_are_one_key():
    rows = [payment(0, NOON, a=1, b="23"), payment(1, NOON, a=12, b="3"), payment(2, NOON, a=1, b=None)]
    asked = payment(9, NOON, a=1, b="23")
    assert everywhere(view(("a", "b")), rows, asked)["count"] == 1
    assert everywhere(view(("b", "a")), rows, asked)["count"] == 1
    assert everywhere(view(("a",)), rows, asked)["count"] == 2
    assert everywhere(view(()), rows, asked)["count"] == 3
    assert everywhere(view(("a", "b"), own_event=True), rows, payment(9, NOON, a=1, b=None))["count"] == 1


def test_sums_depend_on_the_order_of_events_not_of_arrival():
    """1e16 + 1.0 + -1e16 is 0.0 or 1.0 by the order: late and early arrival give the same."""
    big, one, minus = payment(0, NOON - 3, x=1e16), payment(1, NOON - 2, x=1.0), payment(2, NOON - 1, x=-1e16)
    orders = ([big, one, minus], [minus, one, big], [one, minus, big])
    sums = {everywhere(view(), list(rows), payment(9, NOON))["sum"] for rows in orders}
    assert len(sums) == 1
