"""Attributes of a stream with a column of creation: backfill, online and recompute against the oracle and the join."""

from __future__ import annotations

from datetime import datetime, timedelta

import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_online_windows import context

import headrace as hr
from headrace.data.applying import AppliedBatch
from headrace.data.types import Field, StreamSpec
from headrace.engines.online.memory import MemoryOnline
from headrace.features import View, point_in_time_join
from headrace.features.asking import asking_points
from headrace.features.backfill import backfill
from headrace.features.given_values import GivenValues
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.types import Ask, AttributeView, EventSpine, FeatureSet, RequestFeatures
from headrace.kernel.errors import HeadraceError, InvalidSystem
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

KEY = (Field("a", "int", nullable=True), Field("s", "str", nullable=True))
CARD = StreamSpec(
    "card",
    (Field("id", "int"), Field("at", "datetime"), Field("seen", "datetime"), *KEY, Field("v", "float", nullable=True),
     Field("n", "int", nullable=True), Field("w", "str", nullable=True)),
    "id", "a", "at", "seen", lateness=8,
)  # fmt: skip
ASK = StreamSpec("ask", (Field("id", "int"), Field("at", "datetime"), *KEY), "id", "a", "at")
COLUMNS = ("v", "n", "w")
VIEWS = (
    AttributeView("pair", "pair", "card", ("a", "s"), COLUMNS, 5, text_columns=("s", "w")),
    AttributeView("one", "one", "card", ("a",), COLUMNS, text_columns=("s", "w")),
    AttributeView("any", "any", "card", (), COLUMNS, 3, text_columns=("s", "w")),
)


def first_letter(pair_w, one_w, any_w):
    return {
        name: [-1 if t is None else ord(t[0]) for t in texts] for name, texts in zip("pqr", (pair_w, one_w, any_w), strict=True)
    }


LETTERS = RequestFeatures("first_letter", first_letter, ("pair_w", "one_w", "any_w"), ("p", "q", "r"))
FEATURES = FeatureSet((*VIEWS, LETTERS))
SPECS = Specs((CARD, ASK, *VIEWS, LETTERS))

small = st.integers(0, 20)
keys = st.tuples(st.sampled_from((1, 12, 123, None)), st.sampled_from(("23", "3", None)))
cards = st.lists(
    st.tuples(
        keys, small, small, st.sampled_from((0.5, -0.0, 2.0, None)), st.sampled_from((1, 7, None)), st.sampled_from("xy")
    ),
    max_size=30,
)
asks = st.lists(st.tuples(keys, small), min_size=1, max_size=8)


def card_rows(drawn):
    return [
        {"id": i, "at": t, "seen": c, "a": k[0], "s": k[1], "v": v, "n": n, "w": w, "_offset": 2 * i, "_created": c}
        for i, (k, t, c, v, n, w) in enumerate(drawn)
    ]


def table_of(rows, stream):
    kinds = {"int": pl.Int64, "str": pl.String, "float": pl.Float64, "datetime": pl.Int64}
    schema = {f.name: kinds[f.type] for f in stream.fields} | {"_offset": pl.Int64, "_created": pl.Int64}
    times = [f.name for f in stream.fields if f.type == "datetime"]
    table = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
    return table.with_columns(pl.col(times).cast(pl.Datetime("us", "UTC")))


def wanted(rows, key, at, position=10**9):
    """The columns of the views, and of the function, by the oracle."""
    found, letters = [], []
    for view in VIEWS:
        mine = tuple(dict(zip(("a", "s"), key, strict=True))[name] for name in view.by)
        last = oracle.newest(rows, at, position, key=mine, by=view.by, ttl=view.ttl)
        found += [None if last is None else last[name] for name in COLUMNS]
        letters.append(-1 if last is None else ord(last["w"]))
    return found + letters


@settings(max_examples=60, deadline=None)
@given(cards, asks)
def test_backfill_equals_the_oracle_and_the_join(drawn, asked):
    rows = card_rows(drawn)
    spine = [{"id": i, "at": t, "a": k[0], "s": k[1], "_offset": i, "_created": t} for i, (k, t) in enumerate(asked)]
    frames = {"card": table_of(rows, CARD), "ask": table_of(spine, ASK)}
    table = backfill(FEATURES, asking_points(EventSpine("ask"), frames, SPECS), frames, SPECS, spine="ask")
    assert list(table.select(FEATURES.given).rows()) == [tuple(wanted(rows, k, t)) for k, t in asked]
    labels = frames["ask"].select("a", "s", "at")
    for view in VIEWS:
        ttl = None if view.ttl is None else timedelta(microseconds=view.ttl)
        known = frames["card"].drop("_offset", "_created", "id")
        joined = point_in_time_join(labels, [View("j", known, view.by, "at", "seen", ttl, columns=COLUMNS)])
        assert joined.select(f"j__{c}" for c in COLUMNS).rows() == table.select(view.columns).rows()


@settings(max_examples=60, deadline=None)
@given(cards, st.lists(st.tuples(keys, small, st.integers(0, 30)), min_size=1, max_size=8))
def test_online_and_recompute_equal_the_oracle(drawn, asked):
    """Each request after some more events were applied; an asking time out of reach is refused, all others are exact."""
    rows = card_rows(drawn)
    frames = {"card": table_of(rows, CARD)}
    online = MemoryOnline()
    views = OnlineViews(context(online, SPECS), VIEWS)
    reader = FeatureReader(online, Namespace("shop"), FEATURES, SPECS, asking="ask")
    done, reads = 0, []
    for number, (key, moment, count) in enumerate(sorted(asked, key=lambda a: a[2])):
        if count > done and done < len(rows):
            part = frames["card"][done:count]
            views.sink(AppliedBatch("card", part, int(part["_offset"][-1]) + 1))
            done += len(part)
        at = max(moment, max((r["at"] for r in rows[:done]), default=0) - CARD.lateness)
        request = {"id": number, "at": at, "a": key[0], "s": key[1]}
        row = reader.read(request, at, number)
        numbers = wanted(rows[:done], key, at)
        expected = [v for name, v in zip(FEATURES.given, numbers, strict=True) if name in FEATURES.columns]
        assert [None if v != v else v for v in row.values.tolist()] == expected
        reads.append((LoggedRead(request, at, number, row.positions), row.values))
    again = recompute(FEATURES, [read for read, _ in reads], frames, SPECS, asking="ask")
    for found, (_, values) in zip(again, reads, strict=True):
        assert found.tobytes() == values.tobytes()


def told(row):
    return str(row) if isinstance(row, HeadraceError) else (row.values.tobytes(), row.age, row.texts, row.positions)


@settings(max_examples=30, deadline=None)
@given(cards, st.lists(st.tuples(keys, small), max_size=4))
def test_requests_together_see_what_each_sees_alone(drawn, asked):
    """Also the events themselves as requests, which see those of their time that came before them."""
    rows = card_rows(drawn)
    online = MemoryOnline()
    if rows:
        OnlineViews(context(online, SPECS), VIEWS).sink(AppliedBatch("card", table_of(rows, CARD), rows[-1]["_offset"] + 1))
    reader = FeatureReader(online, Namespace("shop"), FEATURES, SPECS, asking="card")
    asks = [Ask(row, row["at"], row["id"]) for row in rows]
    asks += [Ask({"a": key[0], "s": key[1]}, at, None) for key, at in asked]
    together = reader.read_many(asks)
    assert [told(row) for row in together] == [told(row) for ask in asks for row in reader.read_many([ask])]
    for ask, row in zip(asks, together, strict=True):
        if not isinstance(row, HeadraceError) and ask.own_id is not None:
            before = [other for other in rows if (other["at"], other["id"]) < (ask.at, ask.own_id)]
            expected = wanted(before, (ask.request["a"], ask.request["s"]), ask.at)
            (given,) = GivenValues(FEATURES, SPECS, {}).of([row])
            assert [None if value != value else value for value in given] == expected


def card(number, at, created=None, **fields):
    seen = at if created is None else created
    values = {"a": 1, "s": "u", "v": float(number), "n": number, "w": "x"}
    return {"id": number, "at": at, "seen": seen, "_offset": number, "_created": seen} | values | fields


class Live:
    """One view of attributes by `a`, kept online."""

    def __init__(self, ttl=None):
        self.view = AttributeView("card", "card", "card", ("a",), ("v",), ttl)
        self.online, self.specs = MemoryOnline(), Specs((CARD, ASK, self.view))
        self.views = OnlineViews(context(self.online, self.specs), [self.view])
        self.reader = FeatureReader(self.online, Namespace("shop"), FeatureSet((self.view,)), self.specs, asking="ask")

    def apply(self, *rows):
        self.views.sink(AppliedBatch("card", table_of(rows, CARD), rows[-1]["_offset"] + 1))

    def at(self, at, a=1):
        row = self.reader.read({"id": 9, "at": at, "a": a}, at, 9)
        return None if row.values[0] != row.values[0] else row.values[0]

    def kept(self):
        """Words of time, offset, id, created and v of each kept event after the header of 24 bytes."""
        return [(len(value) - 24) // 40 for key, value in self.online.scan(b"shop/view/") if key.count(b"/") == 3]


def test_a_late_value_never_overwrites_a_newer_one():
    live = Live()
    live.apply(card(1, 10))
    live.apply(card(2, 5))
    assert (live.at(10), live.at(9), live.at(4)) == (1.0, 2.0, None)


def test_a_correction_of_the_same_event_time_counts_from_its_creation_on():
    live = Live()
    live.apply(card(1, 10), card(2, 10, created=14))
    assert [live.at(t) for t in (10, 13, 14)] == [1.0, 1.0, 2.0]


def test_the_ttl_includes_its_edge_online():
    live = Live(ttl=3)
    live.apply(card(1, 10))
    assert [live.at(t) for t in (10, 13, 14)] == [1.0, 1.0, None]


def test_only_what_can_still_be_asked_is_kept():
    """The newest value of a quiet key for ever without a ttl; behind the lateness only the newest."""
    live = Live()
    live.apply(*(card(n, n) for n in range(1, 6)), card(6, 90, a=2), card(7, 3))
    live.apply(card(8, 5, v=None))
    assert live.at(90) is None and sum(live.kept()) == 2
    live.apply(card(9, 91))
    assert live.at(90) is None and live.at(91) == 9.0
    short = Live(ttl=10)
    short.apply(card(1, 1), card(2, 90, a=2))
    assert sum(short.kept()) == 1


def shop():
    system = hr.System("shop")

    @system.stream(id="id", key="who", time="at")
    class Profile:
        id: int
        at: datetime
        who_id: int
        who: str
        country: str
        income: float | None

    return system, Profile


def test_attributes_are_declared_with_columns_named_by_their_key():
    system, profile = shop()
    view = system.attributes(profile, by="who_id", columns=["country", "income"], ttl="30d")
    assert view.columns == ("who_country", "who_income")
    assert (view.texts, view.ttl) == (("who_country",), 30 * 86_400_000_000)
    assert system.attributes(profile, by=(), columns=["income"]).columns == ("all_income",)
    assert system.attributes(profile, by=("who", "country"), columns=["income"], name="known").columns == ("known_income",)
    windows = system.windows(profile, by="who_id", over=["7d"], n=hr.count())
    assert windows.columns == ("who_n_7d",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "whom", "columns": ["income"]}, "no field `whom`"),
        ({"by": "who", "columns": ["incme"]}, "no field `incme`"),
        ({"by": "who", "columns": "income"}, "not a list of different columns"),
        ({"by": "who", "columns": []}, "not a list of different columns"),
        ({"by": "who", "columns": ["income"], "ttl": "month"}, "not a duration"),
    ],
)
def test_wrong_attributes_are_refused(options, message):
    system, profile = shop()
    with pytest.raises(InvalidSystem, match=message):
        system.attributes(profile, **options)
