"""Labels: all five kinds against plain loops; horizons with both edges, ties, late events, corrections, maturity."""

from __future__ import annotations

import math

import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import SPECS, bits, frames, histories

from headrace.features.asking import asking_points
from headrace.features.labels import known_frames, label_rows
from headrace.features.types import Aggregate, EventSpine, Label, SnapshotSpine
from headrace.kernel.times import DAY, to_micros
from headrace.training.answers import kind_of, labels_of

REPORTED = Label("label", "report", ("id",), 7)
QUIET = Label("no_event", "pay", ("a",), 7)
SETTLED = Label("value", "pay", ("a",), 7, "y")
NEXT = Label("value_after", "pay", ("a",), 7, "x")
AGGREGATES = st.sampled_from(("sum", "mean", "std", "min", "last", "first", "distinct", "count"))
SPENT = Label("future", "pay", ("a",), 7, aggregate=Aggregate("sum", "x"))


def payment(number, at, a=0, x=1.0, y=3, b="u"):
    return {"id": number, "at": at, "a": a, "b": b, "x": x, "y": y, "flag": True, "word": None, "_offset": number}


def report(number, at):
    return {"id": number, "at": at, "_offset": number}


def labelled(label, payments, reports=(), *, known_at=99, created=None):
    """`created`: when each event of the label's stream was, by default at its time."""
    tables = frames(payments, list(reports))
    if created is not None:
        tables[label.stream] = tables[label.stream].with_columns(pl.Series("_created", created, pl.Int64))
    asking, known = asking_points(EventSpine("pay"), tables, SPECS), known_frames(label, tables, known_at)
    value, trainable = label_rows(label, asking, known, SPECS, known_at=known_at)
    return value.to_list(), trainable.tolist()


@pytest.mark.parametrize(("at", "value"), [(9, 0), (10, 1), (17, 1), (18, 0)])
def test_a_report_counts_from_the_asking_time_to_the_end_of_the_horizon(at, value):
    assert labelled(REPORTED, [payment(0, 10)], [report(0, at), report(1, 12)])[0] == [value]


@pytest.mark.parametrize(("at", "value"), [(10, 1), (11, 0), (17, 0), (18, 1)])
def test_no_event_of_the_key_after_the_asking_time_and_within_the_horizon(at, value):
    assert labelled(QUIET, [payment(0, 10), payment(1, at), payment(2, 13, a=1)])[0][0] == value


@pytest.mark.parametrize(("at", "value"), [(9, 3), (10, 8), (17, 8), (18, 3)])
def test_a_value_counts_from_the_asking_time_to_the_end_of_the_horizon(at, value):
    assert labelled(SETTLED, [payment(0, 10), payment(1, at, y=8)])[0][0] == value


def test_a_correction_is_the_value_and_of_equal_times_the_last_to_arrive():
    values, _ = labelled(SETTLED, [payment(0, 10, y=1), payment(1, 12, y=5), payment(2, 14, y=7), payment(3, 14, y=6)])
    assert values[0] == 6
    late = [payment(0, 10, y=1), payment(1, 14, y=7), payment(2, 12, y=5)]
    assert labelled(SETTLED, late)[0][0] == 7, "what arrives last is not what is known last"


@pytest.mark.parametrize(("at", "value"), [(16, None), (17, 5.0), (40, 5.0)])
def test_a_value_after_is_that_of_the_first_event_at_or_after(at, value):
    values, trainable = labelled(NEXT, [payment(0, 10), payment(1, at, x=5.0), payment(2, 50, x=6.0)], known_at=45)
    assert (values[0], trainable[0]) == (value, value is not None)


def test_a_value_after_is_known_with_its_event_and_ties_are_in_order_of_arrival():
    rows = [payment(0, 10), payment(1, 30, x=5.0), payment(2, 30, x=6.0), payment(3, 20, a=1)]
    assert labelled(NEXT, rows, known_at=29) == ([None] * 4, [False] * 4)
    assert labelled(NEXT, rows, known_at=30)[1] == [True, False, False, False]


def test_the_future_is_what_follows_and_ends_with_the_horizon():
    rows = [payment(0, 10, x=9.0), payment(1, 10, x=9.0), payment(2, 11, x=0.5), payment(3, 17, x=2.0), payment(4, 18, x=4.0)]
    assert labelled(SPENT, rows)[0][:2] == [2.5, 2.5]
    mean = Label("future", "pay", ("a",), 7, aggregate=Aggregate("mean", "x"))
    assert labelled(mean, rows)[0][4] is None
    assert labelled(mean, rows)[1] == [True, True, True, True, False]
    zero = Label("future", "pay", ("a",), 7, aggregate=Aggregate("mean", "x", empty=0.0))
    assert labelled(zero, rows)[1] == [True] * 5


@pytest.mark.parametrize(("kind", "expected"), [("last", ["v", None, "v"]), ("first", ["w", None, "v"])])
def test_the_last_text_of_the_future_is_a_class(kind, expected):
    rows = [{**payment(n, at), "word": word} for n, (at, word) in enumerate([(10, "u"), (99, None), (11, "w"), (13, "v")])]
    newest = Label("future", "pay", ("a",), 7, aggregate=Aggregate(kind, "word"))
    table = pl.Series("label", labelled(newest, rows)[0][:3])
    assert table.to_list() == expected
    labels = labels_of(table.drop_nulls().to_frame())
    assert (kind_of(labels), labels.tolist()) == ("class", [text for text in expected if text])


@pytest.mark.parametrize(
    ("label", "before", "after"), [(REPORTED, 0, 1), (QUIET, 1, 0), (SETTLED, 3, 8), (NEXT, None, 5.0), (SPENT, 0.0, 5.0)]
)
def test_what_was_created_later_is_not_known(label, before, after):
    rows = [payment(0, 10), payment(1, 17, x=5.0, y=8)]
    reports, created = ([report(0, 12)], [30]) if label is REPORTED else ([], [10, 30])
    assert labelled(label, rows, reports, known_at=29, created=created)[0][0] == before
    assert labelled(label, rows, reports, known_at=30, created=created)[0][0] == after


@pytest.mark.parametrize("label", [REPORTED, QUIET, SPENT, SETTLED])
def test_a_row_is_trainable_when_its_horizon_is_over_positives_too(label):
    rows = [payment(0, 10), payment(1, 11, a=1)], [report(0, 10), report(1, 11)]
    assert labelled(label, *rows, known_at=17)[1] == [True, False]
    assert labelled(label, *rows, known_at=16)[1] == [False, False]


@pytest.mark.parametrize("label", [SETTLED, NEXT])
def test_a_null_is_no_value(label):
    rows = [payment(0, 10), payment(1, 17, x=None, y=None)]
    assert labelled(label, rows) == ([None, None], [False, False])


def test_texts_and_truths_keep_their_types():
    word = Label("value", "pay", ("a",), 7, "b")
    assert labelled(word, [payment(0, 10, b="u"), payment(1, 12, b="é")])[0] == ["é", "é"]
    flag = label_rows(Label("value", "pay", ("a",), 7, "flag"), *_asked([payment(0, 10)]), SPECS, known_at=99)[0]
    assert flag.dtype == pl.Boolean
    assert label_rows(SPENT, *_asked([payment(0, 10)]), SPECS, known_at=99)[0].dtype == pl.Float64


def _asked(payments):
    tables = frames(payments, [])
    return asking_points(EventSpine("pay"), tables, SPECS), tables


LATER = st.lists(st.integers(0, 30), min_size=40, max_size=40)
"""How long after its time each event was created."""


def _known(events, later, known_at):
    """When each was created, and those that are known at `known_at`."""
    created = [event["at"] + gap for event, gap in zip(events, later, strict=False)]
    return created, [event for event, at in zip(events, created, strict=True) if at <= known_at]


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 60), LATER)
def test_labels_equal_a_plain_loop(history, known_at, later):
    payments, reports = history
    over = [p["at"] + 7 <= known_at for p in payments]
    created, known = _known(reports, later, known_at)
    reported = [int(any(r["id"] == p["id"] and p["at"] <= r["at"] <= p["at"] + 7 for r in known)) for p in payments]
    assert labelled(REPORTED, payments, reports, known_at=known_at, created=created) == (reported, over)
    created, known = _known(payments, later, known_at)
    quiet = [int(not any(o["a"] == p["a"] and p["at"] < o["at"] <= p["at"] + 7 for o in known)) for p in payments]
    assert labelled(QUIET, payments, reports, known_at=known_at, created=created) == (quiet, over)


def _key(event, names):
    return tuple(event[name] for name in names)


@settings(max_examples=80, deadline=None)
@given(
    histories(),
    st.integers(0, 60),
    LATER,
    st.sampled_from([("a",), ("b",), ("a", "b")]),
    st.sampled_from(("x", "y", "b", "flag")),
)
def test_values_equal_a_plain_loop(history, known_at, later, by, column):
    payments, _ = history
    created, known = _known(payments, later, known_at)
    last, last_known, first, first_known = [], [], [], []
    for p in payments:
        same = [] if None in _key(p, by) else [o for o in known if _key(o, by) == _key(p, by)]
        same.sort(key=lambda o: (o["at"], o["_offset"]))
        within = [o for o in same if p["at"] <= o["at"] <= p["at"] + 7]
        after = [o for o in same if o["at"] >= p["at"] + 7]
        last.append(within[-1][column] if within else None)
        last_known.append(p["at"] + 7 <= known_at and last[-1] is not None)
        first.append(after[0][column] if after else None)
        first_known.append(first[-1] is not None and after[0]["at"] <= known_at)
    asked = {"known_at": known_at, "created": created}
    assert labelled(Label("value", "pay", by, 7, column), payments, **asked) == (last, last_known)
    assert labelled(Label("value_after", "pay", by, 7, column), payments, **asked) == (first, first_known)


@settings(max_examples=80, deadline=None)
@given(
    histories(), st.integers(0, 60), LATER, st.sampled_from([("a",), (), ("a", "b")]), AGGREGATES, st.sampled_from((None, -1.0))
)
def test_the_future_equals_a_plain_loop(history, known_at, later, by, kind, empty):
    payments, _ = history
    created, known = _known(payments, later, known_at)
    expected = []
    for p in payments:
        same = [] if None in _key(p, by) else [o for o in known if _key(o, by) == _key(p, by)]
        window = sorted((o for o in same if p["at"] < o["at"] <= p["at"] + 7), key=lambda o: (o["at"], o["_offset"]))
        expected.append(oracle.value(kind, None if kind == "count" else "x", window, empty=empty))
    label = Label("future", "pay", by, 7, aggregate=Aggregate(kind, None if kind == "count" else "x", empty=empty))
    values, trainable = labelled(label, payments, known_at=known_at, created=created)
    assert [bits(v) for v in values] == [bits(v) for v in expected]
    assert trainable == [p["at"] + 7 <= known_at and v is not None for p, v in zip(payments, expected, strict=True)]


@pytest.mark.parametrize("label", [SPENT, NEXT, SETTLED, QUIET])
def test_many_keys_without_events_over_many_years(label):
    """(key, time) does not fit 64 bits when every asked key is counted: keys without events must not wrap round."""
    years = 40 * 365 * DAY
    tables = frames([payment(0, 0), payment(1, years)], [])
    at = pl.Series("_at", [years] * 20_000, pl.Int64).cast(pl.Datetime("us", "UTC"))
    asking = pl.DataFrame({"a": range(20_000), "_own": [-1] * 20_000}).with_columns(at)
    value, _ = label_rows(label, asking, tables, SPECS, known_at=math.inf)
    assert value[1:].unique().to_list() == [{"future": 0.0, "no_event": 1}.get(label.kind)]


def test_asking_points_begin_at_start_and_stop_before_end():
    tables = frames([payment(n, 10 * n) for n in range(5)], [])
    asking = asking_points(EventSpine("pay"), tables, SPECS, start=10, end=30)
    assert asking["_own"].to_list() == [1, 2]
    snapshots = asking_points(SnapshotSpine("pay", ("a",), 7), tables, SPECS, start=14, end=28)
    assert [to_micros(t) for t in snapshots["_at"]] == [14, 21]


def test_snapshots_have_the_known_keys_only():
    tables = frames([payment(0, 3), payment(1, 7, a=1), payment(2, 5, a=2)], [])
    asking = asking_points(SnapshotSpine("pay", ("a",), 7), tables, SPECS)
    assert asking.select(pl.col("at").dt.epoch("us"), "a").rows() == [(7, 0), (7, 1), (7, 2)]
    assert len(asking_points(SnapshotSpine("pay", ("a",), 4), tables, SPECS, end=8)) == 1
    behind = frames([payment(0, 700), payment(1, 3, a=1)], [])
    live_first = asking_points(SnapshotSpine("pay", ("a",), 7), behind, SPECS, end=8)
    assert live_first["a"].to_list() == [1], "a history imported behind a live event was known before it"
