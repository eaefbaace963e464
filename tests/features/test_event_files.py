"""`features backfill` on files: arrival order, contracts, redeliveries; the published features of the fraud example."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scenario import SPECS

from headrace.features.backfill_files import backfill_files
from headrace.kernel.errors import InvalidInput, NotFound, UsageError
from headrace.system.load import load_system

ROOT = Path(__file__).parents[2]
FRAUD = ROOT.parent / "shared" / "data" / "fraud"
ZERO = datetime(2024, 1, 1, tzinfo=UTC)


SHOP = """
from datetime import datetime

import headrace as hr

system = hr.System("shop")


@system.stream(id="id", key="a", time="at")
class Pay:
    id: int
    at: datetime
    a: int
    x: float


recent = system.windows(Pay, by="a", over=["1d"], sum_x=hr.sum("x"), name="recent")


@system.features
def doubled(recent_sum_x_1d):
    return {"doubled": recent_sum_x_1d * 2}


@system.features
def twice(doubled):
    return {"twice": doubled * 2}
"""


def payments(path, rows):
    """rows: (id, µs, a, x)."""
    frame = pl.DataFrame(
        {"id": [r[0] for r in rows], "at": [ZERO + timedelta(microseconds=r[1]) for r in rows], "a": [r[2] for r in rows],
         "b": ["u"] * len(rows), "x": [r[3] for r in rows], "flag": [True] * len(rows), "arrival": list(range(len(rows)))[::-1]}
    )  # fmt: skip
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["pay.parquet", "pay.csv"])
def test_rows_come_in_arrival_order(tmp_path, name):
    file = payments(tmp_path / name, [(2, 5, 0, 0.5), (0, 9, 0, 1.0), (1, 6, 1, 2.0)])
    out = tmp_path / "out.parquet"
    result = backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=out)
    assert (result["rows"], result["features"]) == (3, 34)
    table = pl.read_parquet(out)
    assert table.columns[:3] == ["a", "at", "own_count_short"]
    assert table["own_sum_x_short"].to_list() == [0.5, 1.5, 2.0]
    backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], order_by="arrival", out=out)
    assert pl.read_parquet(out)["own_sum_x_short"].to_list() == [2.0, 1.0, 0.5]


def test_what_the_contract_refuses_and_what_comes_again_is_left_out(tmp_path):
    rows = [(0, 5, 0, 0.5), (0, 5, 0, 0.5), (1, 6, 0, float("nan")), (2, 7, None, 1.0), (0, 8, 0, 9.0), (3, 8, 0, 2.0)]
    file = payments(tmp_path / "pay.parquet", rows)
    out = tmp_path / "out.parquet"
    assert backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=out)["rows"] == 2
    assert pl.read_parquet(out)["own_sum_x_short"].to_list() == [0.5, 2.5]


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_bad_value_in_a_text_file_costs_its_own_row(tmp_path, kind):
    rows = [{"id": n, "at": f"2024-01-01T00:00:0{n}Z", "a": 0, "b": "u", "x": n + 0.5, "flag": True} for n in range(4)]
    rows[2]["x"] = "much"
    file = tmp_path / f"pay.{kind}"
    if kind == "ndjson":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text("\n".join([",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]))
    out = tmp_path / "out.parquet"
    assert backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=out)["rows"] == 3
    assert pl.read_parquet(out)["own_sum_x_short"].to_list() == [0.5, 1.5, 3.5]


@pytest.mark.parametrize("order_by", [None, "id"])
def test_a_line_that_is_no_json_costs_itself_and_is_told_with_its_number(tmp_path, capfd, order_by):
    lines = [
        json.dumps({"id": n, "at": f"2024-01-01T00:00:0{n}Z", "a": 0, "b": "u", "x": n + 0.5, "flag": True}) for n in range(3)
    ]
    file, out = tmp_path / "pay.ndjson", tmp_path / "out.parquet"
    file.write_text("\n".join([lines[0], "", '{"id": 7, "at": ', lines[1], "[1]", lines[2]]) + "\n")
    result = backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], order_by=order_by, out=out)
    assert result["rows"] == 3
    assert pl.read_parquet(out)["own_sum_x_short"].to_list() == [0.5, 1.5, 2.5]
    told = capfd.readouterr().err
    assert "rows=2" in told and "first_place=3" in told and "not JSON" in told
    file.write_text("no JSON\nat all\n")
    with pytest.raises(InvalidInput, match="cannot be read as ndjson"):
        backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=out)


def test_wrong_use_is_named(tmp_path):
    file = payments(tmp_path / "pay.parquet", [(0, 5, 0, 0.5)])
    out = tmp_path / "out.parquet"
    with pytest.raises(UsageError, match="`report`"):
        backfill_files(SPECS, {"pay": file}, spine="pay", out=out)
    with pytest.raises(NotFound, match="own"):
        backfill_files(SPECS, {"pay": file}, spine="pay", features=["owm"], out=out)
    with pytest.raises(NotFound, match="pay"):
        backfill_files(SPECS, {"pays": file}, spine="pay", out=out)
    with pytest.raises(InvalidInput, match="`when`"):
        backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], order_by="when", out=out)
    (tmp_path / "torn.parquet").write_bytes(file.read_bytes()[:100])
    with pytest.raises(InvalidInput, match="torn"):
        backfill_files(SPECS, {"pay": tmp_path / "torn.parquet"}, spine="pay", features=["own"], out=out)
    for place, message in ((tmp_path, "is a folder"), (tmp_path / "no" / "o.parquet", "no folder"), (file, "is also read"),
                           *((tmp_path / f"out{end}", "not named as Parquet") for end in (".csv", ".gz", ".py"))):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=place)
    assert len(pl.read_parquet(file)) == 1
    backfill_files(SPECS, {"pay": file}, spine="pay", features=["own"], out=tmp_path / "out")
    assert len(pl.read_parquet(tmp_path / "out")) == 1


def test_a_feature_comes_once_and_with_what_it_reads(tmp_path):
    file = payments(tmp_path / "pay.parquet", [(0, 5, 0, 0.5), (1, 6, 0, 2.0)])
    system = tmp_path / "shop.py"
    system.write_text(SHOP)
    specs = load_system(str(system)).specs()
    backfill_files(specs, {"pay": file}, spine="pay", features=["twice", "twice", "doubled"], out=tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").select("recent_sum_x_1d", "doubled", "twice").rows() == [
        (0.0, 0.0, 0.0),
        (0.5, 1.0, 2.0),
    ]


@pytest.fixture(scope="module")
def fraud(tmp_path_factory):
    """(specs, reports file, folder) of the fraud example on the published payments."""
    if not (FRAUD / "transactions.parquet").is_file():
        pytest.skip(f"the published payments are not at {FRAUD}")
    folder = tmp_path_factory.mktemp("fraud")
    known = pl.scan_parquet(FRAUD / "transactions.parquet").filter("is_fraud")
    reports = known.select("tx_id", pl.col("at") + pl.duration(days=7)).sort("at").collect()
    reports.write_parquet(folder / "reports.parquet")
    sys.path.insert(0, str(ROOT / "examples" / "fraud"))
    yield load_system(str(ROOT / "examples" / "fraud" / "system.py")).specs(), folder
    sys.path.remove(str(ROOT / "examples" / "fraud"))


def test_the_published_features_are_ours(fraud):
    """Only payments of a customer with another payment in the same second may differ: their order is arbitrary there."""
    specs, folder = fraud
    streams = {"transaction": FRAUD / "transactions.parquet", "fraud_report": folder / "reports.parquet"}
    result = backfill_files(specs, streams, spine="transaction", order_by="tx_id", out=folder / "out.parquet")
    assert result["rows"] == 1_754_155
    ours = pl.read_parquet(folder / "out.parquet")
    published = pl.read_parquet(FRAUD / "published_features_sample.parquet")
    mine = ours[published["tx_id"]]
    tied = pl.read_parquet(FRAUD / "transactions.parquet", columns=["tx_id", "customer_id", "at"]).filter(
        pl.struct("customer_id", "at").is_duplicated()
    )
    differs = np.zeros(len(published), bool)
    for name in published.columns[1:]:
        differs |= ~np.isclose(mine[name].cast(pl.Float64), published[name].cast(pl.Float64), rtol=1e-12, atol=0)
    assert published.filter(pl.Series(differs))["tx_id"].is_in(tied["tx_id"].implode()).all()
    assert differs.sum() <= 29


def test_without_reports_every_risk_is_zero(fraud):
    specs, folder = fraud
    few = pl.scan_parquet(FRAUD / "transactions.parquet").filter(pl.col("terminal_id") < 50).collect()
    few.write_parquet(folder / "few.parquet")
    pl.read_parquet(folder / "reports.parquet").clear().write_parquet(folder / "none.parquet")
    for reports, risky in (("none", False), ("reports", True)):
        streams = {"transaction": folder / "few.parquet", "fraud_report": folder / f"{reports}.parquet"}
        backfill_files(specs, streams, spine="transaction", order_by="tx_id", out=folder / "few_out.parquet")
        risks = pl.read_parquet(folder / "few_out.parquet").select(pl.selectors.contains("risk"))
        assert len(risks.columns) == 3
        assert (risks.max_horizontal().max() > 0) is risky
        assert risks.null_count().max_horizontal().item() == 0
