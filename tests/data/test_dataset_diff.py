from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest
from conftest import MakeContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_world import SPECS

from headrace.data.comparing import ColumnCounts, NumberRange, TypeChange, diff
from headrace.data.datasets import pin
from headrace.data.operations import diff_datasets
from headrace.engines.context import Context
from headrace.kernel.errors import NotFound
from headrace.statistics.divergences import psi


def _pinned(ctx: Context, *frames: pl.DataFrame) -> list[str]:
    return [pin(ctx, "training", frame, inputs={"number": number}).ref for number, frame in enumerate(frames)]


def test_rows_schema_and_columns(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    at = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    one = pl.DataFrame({"key": ["a", "b", "b", None], "n": [1, 2, 2, None], "x": [0.5, math.nan, math.nan, 2.0], "at": at})
    one = one.with_columns(pl.Series("at", at[:3] + at[2:3]), old=pl.lit(True), kind=pl.lit(1, pl.Int64))
    other = pl.DataFrame({"key": ["b", "c", None], "n": [2, 9, None], "x": [math.nan, -0.0, 2.0], "at": [at[1], at[3], at[2]]})
    other = other.with_columns(new=pl.lit("y"), kind=pl.lit(1.0))
    a, b = _pinned(ctx, one, other)
    found = diff_datasets(ctx, a=a, b=b)
    assert (found.a, found.b, found.same_content) == (a, b, False)
    assert (found.rows_only_a, found.rows_only_b, found.rows_both) == (2, 1, 2)
    assert found.schema == [
        TypeChange("old", "Boolean", None),
        TypeChange("kind", "Int64", "Float64"),
        TypeChange("new", None, "String"),
    ]
    assert [column.name for column in found.columns] == ["key", "n", "x", "at"]
    key, n, x, _ = found.columns
    assert key == ColumnCounts("key", 1, 1, 2, 2, psi([1, 2, 0, 1], [0, 1, 1, 1]))
    assert (n.nulls_a, n.nulls_b, n.distinct_a, n.distinct_b) == (1, 1, 2, 2)
    assert (x.nulls_a, x.nulls_b, x.distinct_a, x.distinct_b) == (2, 1, 2, 2)
    assert found.numbers == [
        NumberRange("n", 1.0, 2.0, 2.0, 9.0, 5 / 3, 5.5),
        NumberRange("x", 0.5, -0.0, 2.0, 2.0, 1.25, 1.0),
    ]


def test_a_shift_is_seen_where_the_first_has_one_value(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    a, b = _pinned(ctx, *(pl.DataFrame({"x": [value] * 50, "key": ["k"] * 50}) for value in (1.0, 2.0)))
    x, key = diff(ctx, a, b).columns
    assert x.psi > 1
    assert key.psi == 0


def test_the_order_of_rows_is_content_and_no_row_differs(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    frame = pl.DataFrame({"n": [1, 2, 2]})
    a, b, c = _pinned(ctx, frame, frame.reverse(), frame)
    assert (diff(ctx, a, b).same_content, diff(ctx, a, b).rows_both) == (False, 3)
    assert diff(ctx, a, c).same_content
    empty, other = _pinned(ctx, frame.clear(), frame.rename({"n": "m"}))
    assert (diff(ctx, a, empty).rows_only_a, diff(ctx, empty, a).rows_only_b) == (3, 3)
    assert diff(ctx, a, empty).numbers == [NumberRange("n", 1.0, None, 2.0, None, 5 / 3, None)]
    assert (diff(ctx, a, other).rows_both, diff(ctx, a, other).columns) == (0, [])
    with pytest.raises(NotFound, match="training@99"):
        diff(ctx, a, "training@99")


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.0, -0.0, 1.5, math.nan, None])), min_size=1, max_size=12
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=ROWS, other=ROWS)
def test_rows_are_matched_as_a_bag(make_context: MakeContext, one: list[tuple], other: list[tuple]) -> None:
    ctx = make_context(SPECS)
    schema = {"key": pl.String, "x": pl.Float64}
    a, b = _pinned(ctx, *(pl.DataFrame(rows, schema, orient="row") for rows in (one, other)))
    bags = [Counter((key, repr(x)) for key, x in rows) for rows in (one, other)]
    found = diff(ctx, a, b)
    assert found.rows_only_a == (bags[0] - bags[1]).total()
    assert found.rows_only_b == (bags[1] - bags[0]).total()
    assert found.rows_both == (bags[0] & bags[1]).total()
    assert found.columns[0].nulls_a == sum(key is None for key, _ in one)
