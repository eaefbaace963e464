"""A backfill that goes through files gives the bits of the one in memory: any history, order, key, function, format."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scenario import COUNT, JOIN, OVER, PAY, REPORT, SPECS, VIEWS, all_of, frames, histories

from headrace.features.backfill_files import backfill_files
from headrace.features.memory_budget import check_memory, memory_bytes
from headrace.features.types import AttributeView, RequestFeatures, WindowView
from headrace.kernel.errors import InvalidInput, UsageError
from headrace.kernel.specs import Specs
from headrace.system.file_operations import backfill

TINY = "150KB"
"""A few rows at once, and a part for every few keys."""


def habit(y, own_sum_x_long, own_last_y_short, at):
    return {"twice": y * 2, "rise": own_last_y_short * 2, "ratio": own_sum_x_long / 3, "odd": at.astype(np.int64) % 2 == 1}


FUNCTION = RequestFeatures(
    "habit", habit, ("y", "own_sum_x_long", "own_last_y_short", "at"), ("twice", "rise", "ratio", "odd")
)  # fmt: skip
PER_ID = WindowView("per_id", "pay", ("id",), OVER, COUNT + all_of("x", "sum", "last"), delay=1)
NEWEST = AttributeView("newest", "newest", "pay", ("a",), ("x", "word"), ttl=20, text_columns=("word",))
ALL = Specs((PAY, REPORT, JOIN, *VIEWS, PER_ID, NEWEST, FUNCTION))
EVERY = [*(view.name for view in VIEWS), "newest", "habit", "y", "x"]


def both(specs, streams, folder, **options):
    """The tables of both ways; `memory` of the second is `TINY` unless given."""
    memory = options.pop("memory", TINY)
    results = []
    for name, given_memory in (("whole", "64GB"), ("parts", memory)):
        out = folder / f"{name}.parquet"
        rows = backfill_files(specs, streams, out=out, memory=given_memory, **options)["rows"]
        table = pl.read_parquet(out)
        assert len(table) == rows
        results.append(table)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "something is left beside OUT"
    return results


def same(whole, parts):
    assert parts.schema == whole.schema
    for name in whole.columns:
        left, right = whole[name], parts[name]
        if left.dtype == pl.Float64:
            assert left.is_null().equals(right.is_null()), name
            left, right = (pl.Series(s.fill_null(0.0).to_numpy().view(np.int64)) for s in (left, right))
        assert left.equals(right, null_equal=True), name


def stored(folder, payments, reports):
    tables = frames(payments, reports)
    paths = {}
    for name, table in tables.items():
        paths[name] = folder / f"{name}.parquet"
        extra = pl.Series("arrival", [(7 * n) % 11 if n % 5 else None for n in range(len(table))], dtype=pl.Int64)
        table.drop("_offset", "_created").with_columns(extra).write_parquet(paths[name])
    return paths


@pytest.mark.slow
@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(histories(), st.sampled_from((None, "arrival", "id", "at")), st.booleans())
def test_every_view_and_function_gives_the_same_bits(history, order_by, again):
    payments, reports = history
    payments = payments or [_payment()]
    if again and len(payments) > 2:
        payments = [*payments, payments[0], {**payments[1], "x": 7.5}, {**payments[2], "id": 99, "x": float("nan")}]
    with tempfile.TemporaryDirectory() as name:
        paths = stored(Path(name), payments, [{**r, "id": n} for n, r in enumerate(reports)])
        same(*both(ALL, paths, Path(name), spine="pay", order_by=order_by, features=EVERY))


@settings(max_examples=8, deadline=None, phases=(Phase.generate,))
@given(histories())
def test_a_spine_of_another_stream_asks_what_was_known(history):
    payments, reports = history
    reports = [{**r, "id": n} for n, r in enumerate(reports)] or [{"id": 0, "at": 3, "_offset": 0}]
    with tempfile.TemporaryDirectory() as name:
        paths = stored(Path(name), payments, reports)
        same(*both(ALL, paths, Path(name), spine="report", features=["per_id", "all"]))


def _payment(**changed):
    return {"id": 0, "at": 1, "a": 0, "b": "u", "x": 1.0, "y": 3, "flag": True, "word": None, "_offset": 0} | changed


@pytest.mark.slow
def test_many_rows_in_several_parts(tmp_path):
    random = np.random.default_rng(5)
    count = 3_000
    payments = [
        _payment(id=n, at=int(random.integers(0, 900)), a=int(random.integers(0, 40)), x=float(random.normal()), _offset=n)
        for n in range(count)
    ]
    reports = [{"id": n, "at": int(random.integers(0, 900)), "_offset": n} for n in random.permutation(count)[:900].tolist()]
    paths = stored(tmp_path, payments, reports)
    same(*both(ALL, paths, tmp_path, spine="pay", order_by="arrival", features=EVERY, memory="3MB"))


@pytest.mark.parametrize("kind", ["ndjson", "csv", "ndjson.gz", "parquet.gz"])
def test_other_formats(tmp_path, kind):
    import gzip

    rows = [
        {"id": n, "at": f"2024-01-01T00:00:{n % 60:02}Z", "a": n % 3, "b": "u", "x": n + 0.5, "flag": True} for n in range(90)
    ]
    rows[20]["x"] = "much"
    file = tmp_path / f"pay.{kind}"
    if kind.startswith("ndjson"):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif kind == "csv":
        content = "\n".join([",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]).encode()
    else:
        pl.DataFrame([row for row in rows if row["x"] != "much"]).with_columns(
            pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")
        ).write_parquet(tmp_path / "plain.parquet")
        content = (tmp_path / "plain.parquet").read_bytes()
    file.write_bytes(gzip.compress(content) if kind.endswith(".gz") else content)
    whole, parts = both(SPECS, {"pay": file}, tmp_path, spine="pay", features=["own"])
    assert len(parts) == 89
    same(whole, parts)


def test_what_cannot_be_ordered_on_disk_is_told(tmp_path):
    file = tmp_path / "pay.ndjson"
    file.write_text(json.dumps({"id": 1, "at": "2024-01-01T00:00:00Z", "a": 1, "x": 1.0, "flag": True}) + "\n")
    with pytest.raises(UsageError, match="only Parquet is ordered on disk"):
        backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], order_by="id", memory=TINY, out=tmp_path / "o")


def test_the_least_memory_is_told():
    with pytest.raises(InvalidInput, match=r"`--memory 1MB` is too little; allowed: 350MB or more"):
        backfill(None, file="none.py", stream=[], spine="pay", out=Path("out.parquet"), memory="1MB")
    check_memory("350MB")
    check_memory(None)


def test_amounts_of_memory():
    assert memory_bytes("4GB") == 4 << 30
    assert memory_bytes("1.5 MiB") == 3 << 19
    assert memory_bytes(None) > 1 << 20
    for text in ("much", "0GB", "-1", ""):
        with pytest.raises(InvalidInput):
            memory_bytes(text)
