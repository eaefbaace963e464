from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from conftest import MakeContext
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from shop_world import BAD, GOOD, ORDER, SPECS, apply_all, event

from headrace.data.contract import contract_of
from headrace.data.encoding import json_events
from headrace.data.files import read_table
from headrace.data.history import history
from headrace.data.ingest import BATCH, ingest
from headrace.data.operations import ingest_file  # noqa: F401  (enters the operation)
from headrace.data.quarantine import entries
from headrace.data.status import stream_status
from headrace.data.types import Field, Violation
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidInput, NotFound
from headrace.kernel.operation import OPERATIONS
from headrace.kernel.progress import listening
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time

ROWS = pl.DataFrame(
    {
        "id": ["c", "a", "b", "d"],
        "at": pl.Series([datetime(2026, 1, 30, h, 0, 0, us, tzinfo=UTC) for h, us in ((10, 0), (9, 7), (9, 7), (11, 0))]),
        "customer": pl.Series([1, 2, 3, 4], dtype=pl.Int32),
        "amount": [1.5, 2.0, 0.1 + 0.2, 1e-7],
        "color": ["red", None, "blue", "red"],
        "undeclared": [True] * 4,
    }
)


def _write(frame: pl.DataFrame, folder: Path, name: str) -> Path:
    path = folder / name.removesuffix(".gz")
    if "parquet" in name:
        frame.write_parquet(path)
    elif "csv" in name:
        frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S%.6f")).write_csv(path)
    else:
        frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).write_ndjson(path)
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(path.read_bytes()))
    return folder / name


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.csv", "a.ndjson", "a.csv.gz", "a.jsonl.gz", "parquet_without_suffix", "csv_", "nd"]
)
def test_every_format_arrives_as_the_same_events_in_the_same_order(
    make_context: MakeContext, tmp_path: Path, name: str
) -> None:
    ctx = make_context(SPECS)
    seen: list[tuple[int, int]] = []
    with listening(lambda phase, done, rows: seen.append((done, rows)) if phase == "appending" else None):
        result = ingest(ctx, "order", _write(ROWS, tmp_path, name))
    assert (result.rows, result.first_offset, result.next_offset, seen) == (4, 0, 4, [(4, 4)])
    apply_all(ctx)
    expected = ROWS[[1, 2, 0, 3]].drop("undeclared").cast({"customer": pl.Int64})
    found = history(ctx, "order")
    assert_frame_equal(found.drop("_extra", "_offset", "_created"), expected, check_exact=True)
    assert found["_created"].to_list() == expected["at"].to_physical().to_list()
    assert entries(ctx, "order") == []


def test_a_second_import_is_dropped_as_redelivery(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    for name in ("a.parquet", "a.csv", "a.ndjson"):
        ingest(ctx, "order", _write(ROWS, tmp_path, name))
    apply_all(ctx)
    assert (stream_status(ctx)[0].accepted, stream_status(ctx)[0].redelivered) == (4, 8)


def test_bad_rows_of_every_format_go_to_quarantine_with_their_reason(make_context: MakeContext, tmp_path: Path) -> None:
    frame = ROWS.with_columns(
        pl.Series("amount", [1.5, float("nan"), -1.0, 2.0]),
        pl.Series("customer", [1, 2, 3, None]),
        pl.lit("green").alias("color"),
    ).with_columns(pl.Series("color", ["green", "red", "red", "red"]))
    text = frame.with_columns(
        pl.col("customer").cast(pl.String).fill_null("x4"), pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    (tmp_path / "a.csv").write_text(text.write_csv().replace("T11:00:00Z", "T26:00:00Z"))
    common = {"c": ("color", "not one of"), "a": ("amount", "not a finite"), "b": ("amount", "below")}
    expected = {"a.parquet": common | {"d": ("customer", "is null")}, "a.csv": common | {"d": ("at", "RFC 3339")}}
    frame.write_parquet(tmp_path / "a.parquet")
    for name, reasons in expected.items():
        ctx = make_context(SPECS, system=name[2:])
        ingest(ctx, "order", tmp_path / name)
        apply_all(ctx)
        found = {e.raw.split('"id":"')[1][0]: (e.field, e.reason) for e in entries(ctx, "order")}
        assert set(found) == set(reasons)
        for id_, (field, reason) in reasons.items():
            assert found[id_][0] == field
            assert reason in found[id_][1]


def test_broken_lines_of_ndjson_are_quarantined_as_they_came(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    lines = [event("z", at="2026-01-30T12:00:00Z"), *BAD, *GOOD]
    (tmp_path / "a.ndjson").write_bytes(b"\n\n".join(lines) + b"\n")
    result = ingest(ctx, "order", tmp_path / "a.ndjson")
    apply_all(ctx)
    assert result.rows == len(lines)
    assert history(ctx, "order")["id"].to_list()[-1] == "z"
    (status,) = stream_status(ctx)
    assert (status.accepted, status.quarantined) == (len(GOOD) + 1, len(BAD))
    lost = {entry.raw for entry in entries(ctx, "order")} ^ {raw.decode(errors="replace") for raw in BAD}
    assert {raw[:9] for raw in lost} == {"/w==", "\ufffd", '{"id":"g1'}, "of the two events g1 the first in the file was kept"


def test_a_long_file_reports_its_progress(make_context: MakeContext, tmp_path: Path) -> None:
    count = BATCH + 10
    frame = pl.DataFrame(
        {"id": pl.int_range(count, eager=True).reverse().cast(pl.String), "at": ROWS["at"][0], "customer": 1, "amount": 1.0}
    )
    frame.write_parquet(tmp_path / "a.parquet")
    seen: dict[str, list[tuple[int, int]]] = {}
    ctx = make_context(SPECS)
    with listening(lambda phase, done, total: seen.setdefault(phase, []).append((done, total))):
        ingest(ctx, "order", tmp_path / "a.parquet")
    size = (tmp_path / "a.parquet").stat().st_size
    assert seen == {"checking": [(size, size)], "reading": [(count, count)], "appending": [(BATCH, count), (count, count)]}
    apply_all(ctx)
    assert history(ctx, "order")["id"].is_sorted()


def test_times_in_any_text_form_of_a_csv_file_are_read(make_context: MakeContext, tmp_path: Path) -> None:
    times = [
        "2026-01-30",
        "2026-01-30 10:00:00",
        "2026-01-30T10:00:00.5Z",
        "2026-01-30T10:00:00+02:00",
        "2026-01-30 10:00:00-0130",
        "1769767200001",
    ]
    rows = "\n".join(f"{n},{time},1,1.5" for n, time in enumerate(times))
    (tmp_path / "a.csv").write_text(f"id,at,customer,amount\n{rows}\n")
    ctx = make_context(SPECS)
    ingest(ctx, "order", tmp_path / "a.csv")
    apply_all(ctx)
    found = dict(history(ctx, "order").select(pl.col("id"), pl.col("at").to_physical()).rows())
    assert found == {str(n): parse_time(time) if "-" in time else int(time) * 1000 for n, time in enumerate(times)}


def test_integer_ids_of_a_csv_file_are_ordered_as_numbers(make_context: MakeContext, tmp_path: Path) -> None:
    spec = replace(ORDER, fields=(Field("id", "int"), *ORDER.fields[1:]))
    (tmp_path / "a.csv").write_text("id,at,customer,amount\n10,2026-01-30,1,1\n9,2026-01-30,1,1\n")
    ctx = make_context(Specs([spec]))
    ingest(ctx, "order", tmp_path / "a.csv")
    apply_all(ctx, spec=spec)
    assert history(ctx, "order")["id"].to_list() == [9, 10]


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("missing.csv", None, NotFound, "no file"),
        ("a.txt", b"hello\nworld\n", InvalidInput, "not Parquet, CSV or NDJSON"),
        ("a.bin", b"\x00,\x01\n", InvalidInput, "not Parquet, CSV or NDJSON"),
        ("a.parquet", b"id,at\n1,2\n", InvalidInput, "cannot be read as parquet"),
        ("a.csv", b"id,at,amount\n1,2,3\n", InvalidInput, "no column `customer`"),
        ("a.csv", b"", InvalidInput, "cannot be read as csv"),
        ("a.csv.gz", b"id,at\n", InvalidInput, "not a gzip file"),
    ],
)
def test_a_file_that_cannot_be_a_stream_is_refused_in_clear_words(
    make_context: MakeContext, tmp_path: Path, name: str, content: bytes | None, error: type[Exception], words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words):
        ingest(make_context(SPECS), "order", tmp_path / name)


def test_a_bad_file_of_a_folder_holds_up_no_other(make_context: MakeContext, tmp_path: Path) -> None:
    ctx, folder = make_context(SPECS), tmp_path / "in"
    folder.mkdir()
    _write(ROWS.head(2), folder, "a.parquet")
    (folder / "b.csv").write_bytes(b"id,at,amount\n1,2,3\n")
    _write(ROWS.tail(2), folder, "c.ndjson")
    (folder / "d.parquet").write_bytes(b"no")
    for rows, skipped in ((4, 0), (0, 4)):
        result = ingest(ctx, "order", folder)
        assert (result.rows, result.skipped, result.files, [bad.file for bad in result.bad]) == (
            rows, skipped, 4, ["b.csv", "d.parquet"],
        )  # fmt: skip
        assert "no column `customer`" in result.bad[0].reason
        assert OPERATIONS["streams.ingest"].found_bad(result)
    (folder / "b.csv").write_bytes(H + b"z,2026-01-30,1,1,red\n")
    (folder / "d.parquet").unlink()
    again = ingest(ctx, "order", folder)
    assert (again.rows, again.skipped, again.bad) == (1, 4, [])
    assert not OPERATIONS["streams.ingest"].found_bad(again)
    apply_all(ctx)
    assert sorted(history(ctx, "order")["id"]) == ["a", "b", "c", "d", "z"]


H = b"id,at,customer,amount,color\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.csv",
            H + b'a,2026-01-01,1,1\nb,2026-01-01,1,1,"red\n"\nc,2026-01-01,1,1,red,blue\n',
            "6 cells .* after line 4, .* has 5",
        ),
        ("a.csv", H.replace(b"color", b"amount") + b"a,2026-01-01,1,1,2\n", "has 2 columns `amount`"),
        ("a.csv", (H + b"a,2026-01-01,1,1,red\n").replace(b"\n", b"\r"), "by CR alone"),
        ("a.json", b'[{"id": "a"}]', "one JSON document"),
        ("a.json", b'{\n  "id": "a"\n}', "one JSON document"),
        ("a.parquet", b"", "cannot be read as parquet"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(
    make_context: MakeContext, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        ingest(make_context(SPECS), "order", tmp_path / name)


@pytest.mark.parametrize(("name", "content"), [("a.ndjson", GOOD[0]), ("a.csv", H + b"g0,2026-01-30,1,1,")])
def test_a_byte_order_mark_is_no_part_of_the_first_line(
    make_context: MakeContext, tmp_path: Path, name: str, content: bytes
) -> None:
    ctx = make_context(SPECS)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    ingest(ctx, "order", tmp_path / name)
    apply_all(ctx)
    assert history(ctx, "order")["id"].to_list() == ["g0"]


def test_the_same_bytes_under_another_format_are_another_file(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    for name in ("a.ndjson", "a.csv"):
        (tmp_path / name).write_bytes(H + b"a,2026-01-01,1,1,red\n")
    assert ingest(ctx, "order", tmp_path / "a.ndjson").rows == 2
    assert ingest(ctx, "order", tmp_path / "a.csv").rows == 1
    apply_all(ctx)
    assert history(ctx, "order")["id"].to_list() == ["a"]


def test_columns_that_json_has_no_type_for_are_refused_or_texts(make_context: MakeContext, tmp_path: Path) -> None:
    ctx, frame = make_context(SPECS), ROWS.head(3).drop("amount", "color")
    amount = pl.Series("amount", [float("-inf"), 1.0, 2.0])
    frame.with_columns(amount, pl.Series("color", [b"red", b"\xff", b"red"])).write_parquet(tmp_path / "a.parquet")
    frame.with_columns(pl.lit(1.0).alias("amount"), pl.Series("color", [["red"], [], None])).write_parquet(
        tmp_path / "b.parquet"
    )
    ingest(ctx, "order", tmp_path / "a.parquet")
    apply_all(ctx)
    assert {(e.field, e.value) for e in entries(ctx, "order")} == {("amount", "-inf"), ("color", '{"base64":"/w=="}')}
    assert history(ctx, "order")["color"].to_list() == ["red"]
    ingest(ctx, "order", tmp_path / "b.parquet")
    apply_all(ctx)
    assert {e.value for e in entries(ctx, "order")} >= {'["red"]', "[]"}


def test_an_unknown_stream_is_named(make_context: MakeContext, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="`order`"):
        ingest(make_context(SPECS), "orders", _write(ROWS, tmp_path, "a.parquet"))


def test_read_table_infers_types(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv", "a.ndjson"):
        found = read_table(_write(ROWS, tmp_path, name))
        assert (found["amount"].dtype, found["id"].dtype, found.height) == (pl.Float64, pl.String, 4)


_cells = st.one_of(st.text(max_size=5), st.sampled_from(['"', "\\", "\n", "é", "1", "true", "2026-01-30", "NaN", "\x00"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            _cells,
            st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | _cells,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_valid_rows_encoded_and_decoded_are_the_same(rows: list[tuple[object, ...]]) -> None:
    fields = tuple(replace(field, rules=()) for field in ORDER.fields)
    contract = contract_of(replace(ORDER, fields=fields, max_future=10**18))
    frame = pl.DataFrame(rows, contract.schema, orient="row")
    decoded, refused = contract.decode_batch(json_events(fields, frame, textual=False), 0)
    assert refused == []
    assert_frame_equal(decoded.drop("_index"), frame, check_exact=True)


@settings(max_examples=60, deadline=None)
@given(id=_cells, at=_cells, customer=_cells, amount=_cells)
@example(id="a", at="2026-01-30", customer="1234567890123456789", amount="1")
@example(id="a", at="2026-01-30", customer="-9223372036854775808", amount="1")
@example(id="a", at="2026-01-30", customer="9223372036854775808", amount="1")
def test_cells_of_text_are_typed_or_stay_for_the_contract_to_refuse(id: str, at: str, customer: str, amount: str) -> None:
    contract = contract_of(ORDER)
    frame = pl.DataFrame([{"id": id, "at": at, "customer": customer, "amount": amount}])
    (value,) = json_events(ORDER.fields, frame, textual=True)
    decoded = contract.decode(value, FixedEventClock(10**17).now())
    if isinstance(decoded, Violation):
        assert decoded.field is not None
    else:
        assert (decoded["id"], str(decoded["customer"])) == (id, customer.lstrip("+").lstrip("0") or "0")
