"""What `headrace init` drafts takes every row that it was drafted from."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from headrace.app.cli import run_command
from headrace.data.contract import contract_of
from headrace.data.file_rows import file_rows
from headrace.data.types import StreamSpec
from headrace.kernel.times import parse_time
from headrace.system.load import load_system

CSV = """order_id,at,customer,booked,amount,code,big
1,2026-01-01 10:00:00,c1,01/02/2026 10:00,1,1,9223372036854775808
2,2026-01-02T10:00:00Z,c2,02/02/2026 10:00,2.5,2.5,2
3,2026-01-03T10:00:00+01:00,c1,13/02/2026 10:00,,x,3
4,2026-01-04 10:00:00,c2,14/02/2026 10:00,4,,4
"""
NDJSON = "".join(
    json.dumps({"order_id": number, "at": f"2026-01-0{number}T10:00:00Z", "customer": f"c{number % 2}", "code": code}) + "\n"
    for number, code in enumerate([1, 2.5, "x", None], 1)
)


def init(capsys: pytest.CaptureFixture[str], source: Path, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    code = run_command(["init", "shop", "--from", str(source), "--out", str(source.parent), *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def refused_rows(source: Path) -> list[object]:
    """What the contract of the drafted file refuses of the file that it was drafted from."""
    (spec,) = load_system(str(source.parent / "shop.py")).specs().all(StreamSpec)
    rows = pl.concat(list(file_rows(spec, source, source.parent)))["event"].to_list()
    assert len(rows) == 4
    return contract_of(spec).decode_batch(rows, parse_time("2027-01-01T00:00:00Z"))[1]


def types(source: Path) -> dict[str, str]:
    (spec,) = load_system(str(source.parent / "shop.py")).specs().all(StreamSpec)
    return {field.name: field.type for field in spec.fields}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_csv_file_fits_the_types_that_are_drafted_of_it(bom: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "orders.csv"
    source.write_text(bom + CSV)
    code, answer = init(capsys, source)
    assert (code, answer["left_out"]) == (0, {})
    assert types(source) == {
        "order_id": "int", "at": "datetime", "customer": "str", "booked": "str", "amount": "float", "code": "str",
        "big": "float",
    }  # fmt: skip
    assert refused_rows(source) == []


def test_a_column_that_no_type_fits_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "orders.ndjson"
    source.write_text(NDJSON)
    code, answer = init(capsys, source)
    assert code == 0
    assert list(answer["left_out"]) == ["code"]
    assert "no type fits all of its values" in answer["left_out"]["code"]
    assert "# not declared: 'code', no type fits" in (tmp_path / "shop.py").read_text()
    assert refused_rows(source) == []
    (tmp_path / "shop.py").unlink()
    code, answer = init(capsys, source, "--id", "code")
    assert code == 3
    assert "--id `code` cannot be declared: no type fits" in answer["error"]["message"]


def test_times_that_ingest_would_refuse_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "orders.csv"
    source.write_text("order_id,at,customer\n1,01/02/2026 10:00,c1\n2,13/02/2026 10:00,c1\n")
    code, answer = init(capsys, source)
    assert code == 3
    assert "`at` looks like a time, but" in answer["error"]["message"]
    assert "01/02/2026 10:00" in answer["error"]["message"]
    assert "RFC 3339" in answer["error"]["hint"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"\xef\xbb\xbforder_id;at;amount\n1;2026-01-01;1,5\n", "separates its columns by ';'"),
        ("a.csv", b"order_id\tat\n1\t2026-01-01\n", "separates its columns by '\\t'"),
        ("a.csv", "order_id,at\n1,2026-01-01\n".encode("utf-16"), "UTF-16"),
        ("a.py", b"from datetime import datetime, timedelta\nx = 1\n", "is not Parquet, CSV or NDJSON"),
        ("a.xlsx", b"PK\x03\x04,\n", "is not Parquet, CSV or NDJSON"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(
    name: str, content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    code, answer = init(capsys, source)
    assert code == 3
    assert says in answer["error"]["message"]
    assert answer["error"]["hint"]
    assert not (tmp_path / "shop.py").exists()
