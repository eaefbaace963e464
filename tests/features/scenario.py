"""Random histories that hit the edges: out of order, late, tied, null, reported before and after, both window edges."""

from __future__ import annotations

import inspect
import math

import numpy as np
import oracle
import polars as pl
from hypothesis import strategies as st

from headrace.data.types import Field, JoinSpec, StreamSpec
from headrace.features.types import Aggregate, AttributeView, FeatureSet, RequestFeatures, WindowView
from headrace.kernel.specs import Specs

FIELDS = (
    Field("id", "int"), Field("at", "datetime"), Field("a", "int"), Field("b", "str", nullable=True),
    Field("x", "float", nullable=True), Field("y", "int", nullable=True), Field("flag", "bool"),
    Field("word", "str", nullable=True),
)  # fmt: skip
PAY = StreamSpec("pay", FIELDS, "id", "a", "at", lateness=20)
REPORT = StreamSpec("report", (Field("id", "int"), Field("at", "datetime")), "id", "id", "at", lateness=20)
JOIN = JoinSpec("pay_report", "pay", "report", "id")
OVER = (("short", 7), ("long", 25))


def all_of(column, *kinds, **empty):
    return tuple((f"{kind}_{column}", Aggregate(kind, column, empty=empty.get(kind))) for kind in kinds)


NUMERIC = ("sum", "mean", "min", "max", "std", "last", "first", "distinct")
COUNT = (("count", Aggregate("count")),)
SHARE = (("share", Aggregate("share", report="report")),)


def large(y):
    return y > 2


def small(x, flag):
    return (x < 1.0) & flag


X_AND_Y = all_of("x", *NUMERIC, mean=-1.0) + all_of("y", *NUMERIC, std=0.5)
PLAIN = all_of("x", "sum", "last") + all_of("flag", "max", "mean")
TEXT = all_of("word", "distinct", "first", "last") + all_of("b", "last", "distinct") + all_of("at", "last")
VIEWS = (
    WindowView("own", "pay", ("a",), OVER, COUNT + X_AND_Y, own_event=True),
    WindowView("delayed", "pay", ("a", "b"), OVER, COUNT + SHARE + all_of("x", "sum", "std"), join=JOIN, delay=5),
    WindowView("plain", "pay", ("b",), OVER, COUNT + PLAIN, predicate=large),
    WindowView("all", "pay", (), OVER, COUNT + SHARE + all_of("x", "sum", "min", "mean", "max"), join=JOIN, own_event=True),
    WindowView("known", "pay", ("b",), OVER, SHARE + all_of("x", "mean", "max", mean=-1.0), join=JOIN, delay=2),
    WindowView("filtered", "pay", ("b",), OVER, COUNT + SHARE + all_of("y", "first", "distinct"), join=JOIN, predicate=small,
               own_event=True),
    WindowView("tiled", "pay", ("a",), OVER, COUNT + X_AND_Y, own_event=True, resolution=4),
    WindowView("sawtooth", "pay", (), OVER, COUNT + SHARE + all_of("x", "mean", "std", "max") + all_of("y", "distinct"),
               join=JOIN, delay=3, resolution=3),
    WindowView("teeth", "pay", ("b",), OVER, COUNT + all_of("x", "sum", "std", "first"), predicate=large, resolution=5),
    WindowView("counted", "pay", ("a",), OVER, COUNT, own_event=True),
)  # fmt: skip
PREDICATES = {
    "teeth": lambda e: e["y"] is not None and e["y"] > 2,
    "plain": lambda e: e["y"] is not None and e["y"] > 2,
    "filtered": lambda e: e["x"] is not None and e["x"] < 1.0 and e["flag"],
}
TEXTS = WindowView("texts", "pay", ("a",), OVER, TEXT, own_event=True, text_columns=("b", "word"))


def letters(texts_first_word_short, texts_last_word_long, texts_last_b_long, latest_word, newest_b):
    """Numbers of the texts, which a model cannot take."""
    texts = (texts_first_word_short, texts_last_word_long, texts_last_b_long, latest_word, newest_b)
    return {"letters": np.array([sum(ord(t[0]) * 256**n for n, t in enumerate(row) if t) for row in zip(*texts, strict=True)])}


LETTERS = RequestFeatures("letters", letters, tuple(inspect.signature(letters).parameters), ("letters",))
KEPT = ("x", "y", "flag", "word", "at")
LATEST = AttributeView("latest", "latest", "pay", ("a",), KEPT, 9, text_columns=("b", "word"))
NEWEST = AttributeView("newest", "newest", "pay", (), ("x", "b", "y"), text_columns=("b", "word"))
STORED = (*VIEWS, TEXTS, LATEST, NEWEST)
FEATURES = FeatureSet((*STORED, LETTERS))
SPECS = Specs((PAY, REPORT, JOIN, *STORED, LETTERS))
AMOUNTS = (0.1, 0.2, 0.3, 1e16, -1e16, 1.0, -0.0, 0.0, 3.3, None)


@st.composite
def histories(draw, size=40):
    """(payments, reports) as lists of rows in arrival order; offsets have gaps, where refused events were."""
    count = draw(st.integers(0, size))
    few = st.integers(0, 2)
    payments, offset = [], -1
    for number in range(count):
        offset += draw(st.sampled_from((1, 1, 1, 2)))
        arrival = number + draw(st.integers(0, 3))
        payments.append({
            "id": number, "at": max(arrival - draw(st.sampled_from((0, 0, 0, 1, 5, 12))), 0), "a": draw(few),
            "b": draw(st.sampled_from(("u", "v", "é", None))), "x": draw(st.sampled_from(AMOUNTS)),
            "y": draw(st.sampled_from((0, 2, 3, 5, None))), "flag": draw(st.booleans()),
            "word": draw(st.sampled_from(("k", "l", None))), "_offset": offset,
        })  # fmt: skip
        payments[-1]["_created"] = payments[-1]["at"]
    reported = draw(st.lists(st.tuples(st.integers(0, max(count + 2, 1)), st.integers(0, count + 10)), max_size=count))
    reports = [{"id": i, "at": t, "_offset": 2 * n} for n, (i, t) in enumerate(reported)]
    return payments, reports


def frame(rows, stream):
    from headrace.features.frames import DTYPES

    schema = {f.name: pl.Int64() if f.type == "datetime" else DTYPES[f.type] for f in stream.fields}
    table = pl.DataFrame([{n: r[n] for n in (*schema, "_offset")} for r in rows], schema={**schema, "_offset": pl.Int64()})
    created = pl.col("at").alias("_created")
    return table.with_columns(created).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


def frames(payments, reports):
    return {"pay": frame(payments, PAY), "report": frame(reports, REPORT)}


def expected(view, payments, reports, request, at, position, own, reported=math.inf, *, is_event=True):
    """The view's columns by the oracle. `own`: offset of the asking event when it is in the log at the position."""
    key = tuple(request[name] for name in view.by)
    if isinstance(view, AttributeView):
        last = oracle.newest(payments, at, position, key=key, by=view.by, ttl=view.ttl, own=own)
        kept = [None if last is None else last[name] for name in view.source_columns]
        return [v + 0.0 if isinstance(v, float) else v for v in kept]
    values = []
    for _, width in view.over:
        window = oracle.windowed(
            payments, at, position, width, key=key, by=view.by, delay=view.delay, own=own,
            own_row=request if is_event else None, own_event=view.own_event, where=PREDICATES.get(view.name),
            resolution=view.resolution,
        )  # fmt: skip
        for _, aggregate in view.aggregates:
            values.append(oracle.value(aggregate.kind, aggregate.column, window, empty=aggregate.empty, reports=reports, at=at,
                                       reported=reported, resolution=view.resolution))  # fmt: skip
    return values


def expected_features(*asked):
    """By name, what FEATURES give, by the oracle; arguments as of `expected` after the view."""
    found = {}
    for view in STORED:
        found |= zip(view.columns, expected(view, *asked), strict=True)
    found["letters"] = int(letters(*([found[name]] for name in LETTERS.inputs))["letters"][0])
    return {name: found[name] for name in FEATURES.columns}


def bits(value):
    """A value that equals another exactly when they are the same to the bit; -0.0 and NaN are values of their own."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return float(value).hex() if isinstance(value, int | float | bool) else value
