"""Stream to online, request and recompute against the oracle, equal to the bit."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario import FEATURES, PAY, REPORT, SPECS, STORED, VIEWS, bits, expected_features, frames, histories

from headrace.data.applying import AppliedBatch
from headrace.engines.context import Context
from headrace.engines.online.lmdb_store import LmdbStore
from headrace.engines.online.memory import MemoryOnline
from headrace.features.long_states import LONG
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader, FeaturesFailed
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import Aggregate, Ask, FeatureSet, RequestFeatures, RequestField, WindowView
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.namespace import Namespace
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs

MANY = settings(max_examples=40, deadline=None)


def context(online, specs=SPECS):
    """A context whose other engines the online path does not touch."""
    unused = dict.fromkeys(("events", "lake", "blobs", "catalog", "compute"))
    return Context(Settings(), Namespace("shop"), specs, FixedEventClock(0), online=online, **unused)


class Replay:
    """Applies a history to the online views step by step, remembering positions."""

    def __init__(self, payments, reports, online=None, *, long=LONG):
        self.rows = {"pay": payments, "report": reports}
        self.tables = frames(payments, reports)
        self.done = {"pay": 0, "report": 0}
        self.positions = {"pay": -1, "report": -1}
        online = MemoryOnline() if online is None else online
        self.views = OnlineViews(context(online), STORED, long=long)
        self.reader = FeatureReader(online, Namespace("shop"), FEATURES, SPECS, asking="pay")

    def apply(self, stream, count, *, again=False):
        start = self.done[stream]
        part = self.tables[stream][start : start + count]
        if not len(part):
            return
        batch = AppliedBatch(stream, part, int(part["_offset"][-1]) + 1)
        self.views.sink(batch)
        if again:
            self.views.sink(batch)
        self.done[stream] += len(part)
        self.positions[stream] = batch.next_offset - 1

    def watermark(self):
        return max((p["at"] for p in self.rows["pay"][: self.done["pay"]]), default=-math.inf)

    def check(self, request, at):
        own = request["_offset"] if 0 <= request["_offset"] <= self.positions["pay"] else None
        wanted = expected_features(
            self.rows["pay"], self.rows["report"], request, at, self.positions["pay"], own, self.positions["report"]
        )
        row = self.reader.read(request, at, request["id"])
        self.check_together(request, at, row)
        for view in STORED:
            mine = {s: p for s, p in self.positions.items() if s == "pay" or view.join is not None}
            assert row.positions[view.name] == mine
        found = {n: bits(v) for n, v in zip(FEATURES.columns, row.values.tolist(), strict=True)}
        assert found == {n: bits(float("nan") if v is None else float(v)) for n, v in wanted.items()}
        return LoggedRead(request, at, request["id"], row.positions), row.values

    def check_together(self, request, at, row):
        """Read with others, each row is what it is alone; one out of reach is an error of its own."""
        asks = [Ask(p, p["at"], p["id"] if p["id"] % 4 else None) for p in self.rows["pay"][::5]]
        middle, *others = self.reader.read_many([Ask(request, at, request["id"]), *asks])
        assert [bits(v) for v in middle.values.tolist()] == [bits(v) for v in row.values.tolist()]
        assert (middle.positions, middle.age) == (row.positions, row.age)
        for ask, found in zip(asks, others, strict=True):
            if ask.at < self.watermark() - PAY.lateness:
                assert isinstance(found, InvalidInput)
            else:
                alone = self.reader.read(*ask)
                assert [bits(v) for v in found.values.tolist()] == [bits(v) for v in alone.values.tolist()]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("pay", "pay", "report")), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("ask"), st.integers(0, 60), st.integers(0, 25)),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@MANY
@given(histories(), STEPS, st.sampled_from((1, 4, LONG)))
def test_stream_online_request_and_recompute_equal_the_oracle(history, steps, long):
    replay = Replay(*history, long=long)
    reads = []
    for what, first, second in steps:
        if what != "ask":
            replay.apply(what, first, again=second)
            continue
        payments = replay.rows["pay"]
        if payments and first < 45:
            request = payments[first % len(payments)]
        else:
            request = {"id": 999, "at": second + 10, "a": first % 4, "b": "u", "x": 0.7, "y": 9, "flag": True, "word": None,
                       "_offset": -1}  # fmt: skip
        if request["at"] < replay.watermark() - PAY.lateness:
            with pytest.raises(InvalidInput, match="asking time"):
                replay.reader.read(request, request["at"], request["id"])
            continue
        reads.append(replay.check(request, request["at"]))
    if reads:
        values = recompute(FEATURES, [read for read, _ in reads], replay.tables, SPECS, asking="pay")
        for row, (read, logged) in zip(values.tolist(), reads, strict=True):
            pairs = {name: (bits(a), bits(b)) for name, a, b in zip(FEATURES.columns, row, logged.tolist(), strict=True)}
            assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}, read


def payment(number, at, **fields):
    return {"id": number, "at": at, "a": 0, "b": "u", "x": 1.0, "y": 3, "flag": True, "word": None, "_offset": number} | fields


def value_of(row, name):
    return row.values[FEATURES.columns.index(name)]


def test_a_count_falls_when_time_passes_and_nothing_happens():
    replay = Replay([payment(0, 0), payment(1, 3)], [])
    replay.apply("pay", 2)
    asked = payment(9, 0, _offset=-1)
    counts = [value_of(replay.reader.read(asked | {"at": t}, t, 9), "own_count_short") for t in (3, 6, 7, 9, 10)]
    assert counts == [3, 3, 2, 2, 1]


def test_the_asking_event_counts_once_whether_it_has_arrived_or_not():
    replay = Replay([payment(0, 5), payment(1, 5)], [])
    replay.apply("pay", 1)
    assert value_of(replay.reader.read(payment(1, 5), 5, 1), "own_count_short") == 2
    replay.apply("pay", 1)
    assert value_of(replay.reader.read(payment(1, 5), 5, 1), "own_count_short") == 2
    assert value_of(replay.reader.read(payment(0, 5), 5, 0), "own_count_short") == 1


def test_a_report_before_its_event_counts_from_its_time_on():
    replay = Replay([payment(0, 2)], [{"id": 0, "at": 4, "_offset": 0}])
    replay.apply("report", 1)
    asked = payment(9, 3, _offset=-1)
    assert value_of(replay.reader.read(asked, 3, 9), "all_share_short") == 0
    replay.apply("pay", 1)
    assert value_of(replay.reader.read(asked, 3, 9), "all_share_short") == 0
    assert value_of(replay.reader.read(asked | {"at": 4}, 4, 9), "all_share_short") == 0.5


def test_the_age_is_that_of_the_newest_event():
    replay = Replay([payment(0, 2), payment(1, 7, b="v")], [])
    replay.apply("pay", 2)
    row = replay.reader.read(payment(9, 12, b="v", _offset=-1), 12, 9)
    assert row.age == dict.fromkeys((view.name for view in STORED), 5)
    assert replay.reader.read(payment(9, 12, a=7, b="w", _offset=-1), 12, 9).age["own"] is None


def test_trimming_follows_the_watermark_not_the_key():
    """A key that is quiet keeps its events as long as any allowed asking time can see them."""
    online = MemoryOnline()
    replay = Replay([payment(0, 0), *(payment(n, n * 5, a=1) for n in range(1, 30))], [], online)
    replay.apply("pay", 5)
    assert value_of(replay.reader.read(payment(99, 20, _offset=-1), 20, 99), "own_count_long") == 2
    replay.apply("pay", 25)
    replay.views.sink(AppliedBatch("pay", frames([payment(50, 120)], [])["pay"], 51))
    assert value_of(replay.reader.read(payment(99, 130, _offset=-1), 130, 99), "own_count_long") == 2
    joined = [key for key, _ in online.scan(b"shop/view/") if b"~on/" in key]
    assert len(joined) < 3 * 31


@pytest.mark.parametrize("late", [False, True])
def test_what_the_oldest_asking_time_sees_is_kept(late):
    """Lateness 20, watermark 60: asked at 40, the window of 25 begins after 15."""
    edges, newest = [payment(0, 15), payment(1, 16)], [payment(2, 60, a=1)]
    rows = newest + edges if late else edges + newest
    replay = Replay([row | {"_offset": n} for n, row in enumerate(rows)], [])
    for _ in rows:
        replay.apply("pay", 1)
    asked = payment(9, 40, _offset=-1)
    assert value_of(replay.reader.read(asked, 40, 9), "own_count_long") == 2
    with pytest.raises(InvalidInput, match="asking time"):
        replay.reader.read(asked | {"at": 39}, 39, 9)


def test_a_report_finds_the_oldest_event_that_is_seen():
    """Asked at 40, the window of 25 with a delay of 5 begins after 10."""
    replay = Replay([payment(0, 10), payment(1, 11), payment(2, 60, a=1)], [{"id": 1, "at": 30, "_offset": 0}])
    for _ in range(3):
        replay.apply("pay", 1)
    replay.apply("report", 1)
    row = replay.reader.read(payment(9, 40, _offset=-1), 40, 9)
    assert (value_of(row, "delayed_count_long"), value_of(row, "delayed_share_long")) == (1, 1.0)


def test_without_a_transaction_each_state_still_applies_an_event_once():
    """As on an engine that lost the view's position but kept the states written with it."""
    online = MemoryOnline()
    replay = Replay([payment(n, n) for n in range(4)], [], online)
    replay.apply("pay", 3)
    online.write({key: None for key, _ in online.scan(b"shop/view/") if key.count(b"/") == 2})
    replay.done["pay"] = 2
    replay.apply("pay", 2)
    assert value_of(replay.reader.read(payment(9, 4, _offset=-1), 4, 9), "own_count_short") == 5


def test_an_interrupted_batch_is_applied_once(tmp_path):
    replay = Replay([payment(n, n) for n in range(6)], [], LmdbStore(tmp_path))
    replay.apply("pay", 3)
    overlap = replay.tables["pay"][1:6]
    replay.views.sink(AppliedBatch("pay", overlap, 6))
    assert value_of(replay.reader.read(payment(9, 6, _offset=-1), 6, 9), "own_count_short") == 7
    assert replay.views.positions(VIEWS[1]) == {"pay": 5, "report": -1}


def doubled(amount_sum, x):
    return {"twice": amount_sum * 2}


def scaled(twice, day):
    return {"scaled": twice / day, "is_big": twice > 5}


def calendar(at):
    return {"day": at.astype("datetime64[D]").astype(np.int64) + 1}


def test_functions_read_views_and_other_functions_in_any_order_of_declaration():
    view = WindowView("amount", "pay", ("a",), (("w", 10),), (("sum", Aggregate("sum", "x")),), own_event=True)
    functions = [
        RequestFeatures("scaled", scaled, ("twice", "day"), ("scaled", "is_big")),
        RequestFeatures("doubled", lambda amount_sum_w: doubled(amount_sum_w, None), ("amount_sum_w",), ("twice",)),
        RequestFeatures("calendar", calendar, ("at",), ("day",)),
    ]
    features = FeatureSet((*functions, view, RequestField("x")))
    specs = Specs((PAY, REPORT, view))
    online = MemoryOnline()
    views = OnlineViews(context(online, specs), [view])
    tables = frames([payment(0, 1, x=2.0)], [])
    views.sink(AppliedBatch("pay", tables["pay"], 1))
    reader = FeatureReader(online, Namespace("shop"), features, specs, asking="pay")
    row = reader.read(payment(5, 4, x=0.5, _offset=-1), 4, 5)
    assert row.values.tolist() == [5.0, 0.0, 5.0, 1.0, 2.5, 0.5]
    again = recompute(features, [LoggedRead(payment(5, 4, x=0.5), 4, 5, row.positions)], tables, specs, asking="pay")
    assert again.tolist() == [row.values.tolist()]


def halves(y, flag, a_max_y_w):
    """Integers: the result depends on the type of its arguments."""
    return {"half": y * 3 // 2 + a_max_y_w // 2, "not_flag": ~flag if flag.dtype == bool else flag}


def reciprocal(y):
    if any(value == 0 for value in y.tolist()):
        raise ZeroDivisionError("y is 0")
    return {"reciprocal": 1 / y}


def test_a_null_or_a_failure_of_one_request_touches_no_other():
    view = WindowView("a", "pay", ("a",), (("w", 10),), (("max_y", Aggregate("max", "y")),), own_event=True)
    functions = [
        RequestFeatures("halves", halves, ("y", "flag", "a_max_y_w"), ("half", "not_flag")),
        RequestFeatures("reciprocal", reciprocal, ("y",), ("reciprocal",)),
    ]
    reader = FeatureReader(MemoryOnline(), Namespace("shop"), FeatureSet((view, *functions)), Specs((PAY, view)), asking="pay")
    big = (1 << 53) - 1
    rows = [payment(n, 4, a=n, y=y) for n, y in enumerate((big, None, 0, 5, None))] + [{"id": 9, "at": 4, "a": 1}]
    together = reader.read_many([Ask(row, 4, row["id"]) for row in rows])
    assert isinstance(together[2], FeaturesFailed) and "y is 0" in together[2].message
    assert isinstance(together[5], InvalidInput) and together[5].field is not None
    for place in (0, 1, 3, 4):
        alone = reader.read(rows[place], 4, rows[place]["id"]).values
        assert together[place].values.tobytes() == alone.tobytes()
    assert together[0].values[1] == float(big * 3 // 2 + big // 2)


def test_a_missing_field_is_named():
    replay = Replay([], [])
    with pytest.raises(InvalidInput, match="`a`"):
        replay.reader.read({"id": 1, "at": 3, "b": "u"}, 3, 1)


def test_long_and_odd_keys_are_kept_apart(tmp_path):
    keys = ["x" * 600 + "a", "x" * 600 + "b", "é/~on/#", "", "null"]
    view = WindowView("word", "pay", ("b",), (("w", 10),), (("count", Aggregate("count")),))
    specs = Specs((PAY, view))
    online = LmdbStore(tmp_path)
    views = OnlineViews(context(online, specs), [view])
    rows = [payment(n, 1, b=key) for n, key in enumerate([*keys, keys[0], None])]
    views.sink(AppliedBatch("pay", frames(rows, [])["pay"], len(rows)))
    reader = FeatureReader(online, Namespace("shop"), FeatureSet((view,)), specs)
    counts = [reader.read({"b": key}, 5, None).values.tolist() for key in (*keys, None, "other")]
    assert counts == [[2], [1], [1], [1], [1], [0], [0]]
    assert pl.Series([len(k) for k, _ in online.scan(b"shop/")]).max() <= 500
    online.close()
