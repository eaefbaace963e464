"""The point-in-time join against a plain loop over rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import View, point_in_time_join
from headrace.features.join_files import join_files
from headrace.features.last_at_most import last_at_most
from headrace.features.sorting import stable_argsort
from headrace.kernel.errors import InvalidInput, NotFound

ZERO = datetime(2024, 1, 1, tzinfo=UTC)


def moment(micros):
    return None if micros is None else ZERO + timedelta(microseconds=micros)


def newest(rows, key, at, ttl, as_known):
    """The row of the plain definition: newest event time <= at, then created, then place; not older than the ttl."""
    if at is None or any(part is None for part in key):
        return None
    seen = [
        (time, created, place)
        for place, (k, time, created) in enumerate(rows)
        if k == key and time is not None and created is not None and time <= at and (not as_known or created <= at)
    ]
    if not seen or (ttl is not None and at - max(seen)[0] > ttl):
        return None
    return max(seen)[2]


small = st.integers(0, 12)
keys = st.tuples(st.sampled_from((1, 12, None)), st.sampled_from(("23", "3", "é")))
rows = st.lists(st.tuples(keys, st.one_of(small, st.none()), small), max_size=40)
asked_places = st.lists(st.tuples(st.integers(-1, 39), st.integers(0, 9)), max_size=20)
labels = st.lists(st.tuples(keys, st.one_of(small, st.none())), max_size=25)


@settings(max_examples=150, deadline=None)
@given(rows, labels, st.sampled_from((None, 0, 3)), st.booleans(), st.booleans())
def test_the_join_equals_a_plain_loop(rows, labels, ttl, as_known, with_created):
    table = pl.DataFrame(
        {"k": [k[0] for k, _, _ in rows], "s": [k[1] for k, _, _ in rows], "event": [moment(t) for _, t, _ in rows],
         "created": [moment(c) for _, _, c in rows], "value": list(range(len(rows)))},
        schema={"k": pl.Int32, "s": pl.String, "event": pl.Datetime("us", "UTC"), "created": pl.Datetime("us", "UTC"),
                "value": pl.Int64},
    )  # fmt: skip
    asked = pl.DataFrame(
        {"k": [k[0] for k, _ in labels], "s": [k[1] for k, _ in labels], "at": [moment(t) for _, t in labels]},
        schema={"k": pl.Int64, "s": pl.String, "at": pl.Datetime("us", "UTC")},
    )
    view = View("v", table, ["k", "s"], "event", "created" if with_created else None, columns=["value"],
                ttl=None if ttl is None else timedelta(microseconds=ttl))  # fmt: skip
    joined = point_in_time_join(asked, [view], as_known=as_known)
    plain = [(k, t, c if with_created else t) for k, t, c in rows]
    assert joined["v__value"].to_list() == [newest(plain, k, t, ttl, as_known) for k, t in labels]
    assert joined.drop("v__value").equals(asked, null_equal=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), asked_places, st.integers(0, 39), st.sampled_from((0, 1, 16)))
def test_the_search_backwards_equals_a_plain_loop(values, asked, width, steps):
    asked = [(min(found, len(values) - 1), limit) for found, limit in asked]
    first = [max(found - width, 0) for found, _ in asked]
    plain = [
        max((i for i in range(low, found + 1) if values[i] <= limit), default=-1)
        for low, (found, limit) in zip(first, asked, strict=True)
    ]
    found, limits = (np.array(side, np.int64) for side in (list(zip(*asked, strict=True)) or [(), ()]))
    assert last_at_most(np.array(values), found, np.array(first, np.int64), limits, steps=steps).tolist() == plain


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 40), st.integers(2**61, 2**61 + 40), st.integers(0, 2**62)), max_size=60))
def test_the_fast_sort_is_the_stable_order(codes):
    array = np.array(codes, np.int64)
    assert stable_argsort(array).tolist() == np.argsort(array, kind="stable").tolist()


@pytest.mark.parametrize("step", (1, 1 << 30, 1 << 45))
def test_the_fast_sort_of_many_rows_is_the_stable_order(step):
    """Most of them are equal in the high bits that are sorted first."""
    array = np.random.default_rng(0).integers(0, 1000, 200_000) * step + np.random.default_rng(1).integers(0, 3, 200_000)
    assert np.array_equal(stable_argsort(array), np.argsort(array, kind="stable"))


def table(**columns):
    times = {name: [moment(t) for t in columns.pop(name)] for name in ("at", "event", "created") if name in columns}
    return pl.DataFrame(columns | times)


def values_of(frame, view, **options):
    return point_in_time_join(frame, [view], **options)[f"{view.name}__v"].to_list()


def test_ties_go_to_the_newest_created_then_the_last_row():
    rates = table(k=[1, 1, 1], event=[5, 5, 5], created=[7, 9, 9], v=["old", "first", "second"])
    assert values_of(table(k=[1], at=[9]), View("r", rates, ["k"], "event", "created")) == ["second"]
    assert values_of(table(k=[1], at=[8]), View("r", rates, ["k"], "event", "created")) == ["old"]
    assert values_of(table(k=[1], at=[5]), View("r", rates, ["k"], "event", "created"), as_known=False) == ["second"]


def test_a_later_correction_is_not_seen_before_it_was_made():
    rates = table(k=[1, 1], event=[5, 5], created=[5, 20], v=[1.0, 2.0])
    view = View("r", rates, ["k"], "event", "created")
    assert values_of(table(k=[1, 1, 1], at=[19, 20, 4]), view) == [1.0, 2.0, None]
    assert values_of(table(k=[1], at=[19]), view, as_known=False) == [2.0]


def test_duplicate_labels_are_kept_in_order():
    labels = table(k=[2, 1, 2, 2], at=[9, 9, 9, 1], label=[0, 1, 0, 1])
    joined = point_in_time_join(labels, [View("r", table(k=[2, 1], event=[2, 2], v=[20, 10]), ["k"], "event")])
    assert joined.select("k", "label", "r__v").rows() == [(2, 0, 20), (1, 1, 10), (2, 0, 20), (2, 1, None)]


def test_every_row_stays_when_nothing_fits():
    """Out of ttl, only in the future, an unknown key, an unknown time: the row is there once, in its place, with null."""
    rates = table(k=[1, 1, 2, 5, 5], event=[0, 1, 30, 9, 9], v=[1, 2, 3, 4, 5])
    labels = table(k=[2, 1, 3, 1, 5, 1, 5, 1], at=[10, 20, 10, None, 10, 20, 10, 1], row=list(range(8)))
    joined = point_in_time_join(labels, [View("r", rates, ["k"], "event", ttl="3us")])
    assert joined["row"].to_list() == list(range(8))
    assert joined["r__v"].to_list() == [None, None, None, None, 5, None, 5, 2]
    assert joined.select(labels.columns).equals(labels, null_equal=True)


def test_a_late_event_takes_its_place_by_its_event_time_once_it_is_known():
    """Of event time 3, but known from 12 on: it never hides the newer one of 8, and fills the time before it."""
    rates = table(k=[1, 1], event=[8, 3], created=[8, 12], v=["newer", "late"])
    view = View("r", rates, ["k"], "event", "created")
    assert values_of(table(k=[1] * 4, at=[3, 7, 8, 13]), view) == [None, None, "newer", "newer"]
    assert values_of(table(k=[1] * 3, at=[3, 7, 8]), view, as_known=False) == ["late", "late", "newer"]


def test_a_null_key_has_no_value_and_null_is_not_zero():
    rates = table(a=[0, None, 1], b=["", "x", None], event=[0, 0, 0], v=["zero", "null a", "null b"])
    labels = table(a=[0, None, 1, None], b=["", "x", None, None], at=[1, 1, 1, 1])
    assert values_of(labels, View("r", rates, ["a", "b"], "event")) == ["zero", None, None, None]
    assert values_of(labels.select("a", "at"), View("r", rates, ["a"], "event")) == ["zero", None, "null b", None]


def test_times_are_instants_whatever_their_zone_and_naive_ones_are_utc():
    """Noon in Zurich in winter is 11:00 UTC; twice a year an hour has two instants."""
    zurich = pl.Datetime("us", "Europe/Zurich")
    noon = datetime(2024, 1, 1, 11, tzinfo=UTC)
    rates = pl.DataFrame({"k": [1, 1], "event": [noon, noon + timedelta(microseconds=1)], "v": ["noon", "after"]})
    for name in ("UTC", "Europe/Zurich", "Asia/Kathmandu", None):
        dtype = pl.Datetime("us", name)
        zoned = rates.with_columns(pl.col("event").dt.replace_time_zone(None) if name is None else pl.col("event").cast(dtype))
        assert zoned["event"].dtype == dtype
        labels = pl.DataFrame({"k": [1], "at": [noon]}).with_columns(pl.col("at").cast(zurich))
        assert values_of(labels, View("r", zoned, ["k"], "event")) == ["noon"]
    both = [datetime(2024, 10, 27, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    rates = pl.DataFrame({"k": [1, 1], "event": both, "v": ["summer", "winter"]}).with_columns(pl.col("event").cast(zurich))
    assert rates["event"].dt.strftime("%H:%M").to_list() == ["02:30", "02:30"]
    labels = pl.DataFrame({"k": [1, 1], "at": both})
    assert values_of(labels, View("r", rates, ["k"], "event")) == ["summer", "winter"]


def test_milliseconds_nanoseconds_and_dates_are_times():
    rates = table(k=[1], event=[0], v=[1])
    labels = table(k=[1, 1], at=[0, -1])
    for unit in ("ms", "ns"):
        view = View("r", rates.with_columns(pl.col("event").cast(pl.Datetime(unit, "UTC"))), ["k"], "event")
        assert values_of(labels, view) == [1, None]
    assert values_of(labels, View("r", rates.with_columns(pl.col("event").cast(pl.Date)), ["k"], "event")) == [1, None]


def test_one_table_is_joined_twice_under_two_names():
    """A flight's origin and its destination are both a location."""
    weather = table(location=["zrh", "gva", "zrh"], event=[0, 0, 5], v=["sun", "rain", "fog"])
    flights = table(origin=["zrh", "gva"], destination=["gva", "zrh"], at=[4, 5])
    ways = [View(way, weather, ["location"], "event", rename={"location": way}) for way in ("origin", "destination")]
    joined = point_in_time_join(flights, ways)
    assert joined.select("origin__v", "destination__v").rows() == [("sun", "rain"), ("rain", "fog")]


def test_the_ttl_includes_its_edge_and_hides_older_values_behind_a_newer_null():
    rates = table(k=[1, 1], event=[0, 4], v=[1, None])
    view = View("r", rates, ["k"], "event", ttl="3us")
    assert values_of(table(k=[1] * 5, at=[3, 4, 7, 8, 2]), view) == [1, None, None, None, 1]
    view = View("r", rates.head(1), ["k"], "event", ttl="3us")
    assert values_of(table(k=[1, 1], at=[3, 4]), view) == [1, None]


def test_composite_keys_compare_as_tuples():
    rates = table(a=[1, 12], b=[23, 3], event=[0, 0], v=["1,23", "12,3"])
    labels = table(a=[12, 1, 123], b=[3, 23, 3], at=[1, 1, 1])
    assert values_of(labels, View("r", rates, ["a", "b"], "event")) == ["12,3", "1,23", None]


@pytest.mark.parametrize("keys", [["airport"], ["origin"]])
@pytest.mark.parametrize("rename", [{"airport": "origin"}, {"origin": "airport"}])
def test_a_renamed_key_is_found_whichever_way_it_is_written(keys, rename):
    rates = table(airport=["zrh", "gva"], event=[0, 0], v=[1, 2])
    labels = table(origin=["gva", "zrh", None], at=[1, 1, 1])
    assert values_of(labels, View("r", rates, keys, "event", rename=rename)) == [2, 1, None]


def test_without_keys_all_labels_see_the_same():
    rates = table(event=[3, 1], v=[30, 10])
    assert values_of(table(k=[1, 2, 3], at=[0, 2, 3]), View("r", rates, [], "event")) == [None, 10, 30]


def test_several_views_and_empty_tables():
    rates = table(k=[1], event=[0], v=[1])
    labels = table(k=[1, 2], at=[1, 1])
    joined = point_in_time_join(labels, [View("a", rates, ["k"], "event"), View("b", rates.clear(), ["k"], "event")])
    assert joined.select("a__v", "b__v").rows() == [(1, None), (None, None)]
    assert point_in_time_join(labels.clear(), [View("a", rates, ["k"], "event")]).columns == ["k", "at", "a__v"]


class ArrowTable:
    """Any table that speaks the Arrow stream interface."""

    def __init__(self, frame):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)


def test_pandas_arrow_lazy_and_files_give_the_same(tmp_path):
    pd = pytest.importorskip("pandas")
    rates = table(k=[1, 2], event=[0, 0], v=[1.5, None], s=["x", None])
    labels = table(k=[1, 2], at=[1, 1])
    rates.write_parquet(tmp_path / "rates.parquet")
    rates.write_csv(tmp_path / "rates.csv")
    frames = [rates, rates.lazy(), ArrowTable(rates), tmp_path / "rates.parquet", str(tmp_path / "rates.csv")]
    frames.append(pd.DataFrame({"k": [1, 2], "event": pd.to_datetime([ZERO, ZERO]), "v": [1.5, None], "s": ["x", None]}))
    frames.append(pd.DataFrame({"k": [1, 2], "event": pd.to_datetime(["2024-01-01"] * 2), "v": [1.5, None], "s": ["x", None]}))
    for frame in frames:
        joined = point_in_time_join(labels, [View("r", frame, ["k"], "event")])
        assert joined.select("r__v", "r__s").rows() == [(1.5, "x"), (None, None)]
    asked = pd.DataFrame({"k": pd.array([1, None], dtype="Int64"), "at": pd.to_datetime([ZERO, ZERO])})
    assert point_in_time_join(asked, [View("r", rates, ["k"], "event")])["r__v"].to_list() == [1.5, None]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View("r", table(k=[1], event=[0], v=[1]), ["x"], "event"), "`x`"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "when"), "`when`"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "event", columns=["w"]), "`w`"),
        (View("r", table(k=["a"], event=[0], v=[1]), ["k"], "event"), "String"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "v"), "no time"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "event", rename={"v": "w"}), "none of its keys"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "event", ttl="soon"), "duration"),
        (View("r", table(k=[1], event=[0], v=[1]), ["k"], "event", columns=["v", "v"]), "`v` twice"),
        (View("r", pl.DataFrame({"k": [1], "event": ["never"]}), ["k"], "event"), "`event` of view `r`.*never"),
    ],
)
def test_what_does_not_fit_is_named(view, message):
    with pytest.raises(InvalidInput, match=message):
        point_in_time_join(table(k=[1], at=[1]), [view])


def test_keys_beyond_an_int64_equal_only_themselves():
    labels = table(k=[7, -1], at=[1, 1])
    view = table(k=[0, 0], event=[0, 0], v=[1, 2]).with_columns(pl.Series("k", [7, 2**64 - 1], pl.UInt64))
    assert values_of(labels, View("r", view, ["k"], "event")) == [1, None]


def test_a_join_described_by_a_file(tmp_path):
    table(k=[1, 2], event=[0, 0], created=[0, 9], v=[1, 2], w=[3, 4]).write_parquet(tmp_path / "rates.parquet")
    table(k=[2, 1], when=[0, 0]).with_columns(pl.lit(moment(5)).alias("when")).write_parquet(tmp_path / "labels.parquet")
    view = {"name": "r", "path": "rates.parquet", "keys": ["k"], "time": "event", "created": "created", "columns": ["v"]}
    spec = tmp_path / "join.json"
    spec.write_text(json.dumps({"labels": {"path": "labels.parquet", "time": "when"}, "views": [view]}))
    result = join_files(spec, tmp_path / "out.parquet")
    assert (result["rows"], result["columns"]) == (2, 1)
    assert pl.read_parquet(tmp_path / "out.parquet").select("k", "r__v").rows() == [(2, None), (1, 1)]
    spec.write_text(json.dumps({"labels": {"path": "labels.parquet"}, "views": [view | {"key": "k"}]}))
    with pytest.raises(InvalidInput, match="unknown field"):
        join_files(spec, tmp_path / "out.parquet")
    with pytest.raises(NotFound):
        join_files(tmp_path / "other.json", tmp_path / "out.parquet")


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "rates.parquet"
    table(k=[1], event=[5], v=[1.0]).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InvalidInput, match="cannot be read as parquet"):
        point_in_time_join(table(k=[1], at=[9]), [View("r", path, ["k"], "event")])
