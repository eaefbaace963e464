"""`headrace init` writes files that check clean; `headrace check` finds every problem with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from headrace.app.cli import run_command
from headrace.data.types import StreamSpec
from headrace.engines.events.segments import SegmentLog
from headrace.engines.open import open_lake, prepare_data_folder
from headrace.features.types import WindowView
from headrace.kernel.settings import Settings
from headrace.system.load import load_system
from headrace.training.types import ModelSpec

START = datetime(2024, 1, 1, tzinfo=UTC)


def payments(rows: int = 400) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "payment_id": range(rows),
            "at": [START + timedelta(hours=6 * i) for i in range(rows)],
            "customer": [f"c{i % 20}" for i in range(rows)],
            "amount": [1.5 * i for i in range(rows)],
            "items": [i % 3 if i % 5 else None for i in range(rows)],
            "is_fraud": [int(i % 9 == 0) for i in range(rows)],
        }
    )


WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "ndjson": lambda frame, path: frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_ndjson(path),
    "csv": lambda frame, path: frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    code = run_command([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_init_infers_types_time_id_key_and_label(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / f"payments.{kind}"
    WRITERS[kind](payments(), source)
    code, written = run(capsys, "init", "shop", "--from", source, "--out", tmp_path)
    assert code == 0
    assert {name: written[name] for name in ("id", "key", "time", "label", "stream")} == {
        "id": "payment_id", "key": "customer", "time": "at", "label": "is_fraud", "stream": "payment",
    }  # fmt: skip
    assert written["next"][-1] == "headrace train fraud --from 2024-01-01 --to 2024-04-02"  # type: ignore[index]
    code, checked = run(capsys, "check", tmp_path / "shop.py")
    assert (code, checked["problems"]) == (0, [])
    specs = load_system(str(tmp_path / "shop.py")).specs()
    fields = {f.name: (f.type, f.nullable) for f in specs.get(StreamSpec, "payment").fields}
    assert fields == {
        "payment_id": ("int", False), "at": ("datetime", False), "customer": ("str", False), "amount": ("float", False),
        "items": ("int", True),
    }  # fmt: skip
    assert next(view.columns for view in specs.all(WindowView))[0] == "recent_count_1d"
    assert len(specs.all(ModelSpec)) == 1
    reports = [json.loads(line) for line in (tmp_path / "shop_reports.ndjson").read_text().splitlines()]
    assert [report["payment_id"] for report in reports] == [i for i in range(400) if i % 9 == 0]


def test_without_an_outcome_the_first_model_asks_who_falls_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "orders.ndjson"
    WRITERS["ndjson"](payments().drop("is_fraud"), source)
    code, written = run(capsys, "init", "shop", "--from", source, "--out", tmp_path)
    assert (code, written["label"], written["reports"]) == (0, None, None)
    assert run(capsys, "check", tmp_path / "shop.py")[0] == 0
    assert "hr.no_event(Order" in (tmp_path / "shop.py").read_text()


def test_columns_that_cannot_be_declared_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "events.parquet"
    payments().with_columns(pl.lit(1).alias("two words"), pl.concat_list("amount").alias("nested")).write_parquet(source)
    code, written = run(capsys, "init", "shop", "--from", source, "--out", tmp_path)
    assert code == 0
    assert set(written["left_out"]) == {"two words", "nested"}  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop("at"), "time"),
        (lambda f: f.with_columns(pl.lit(7).alias("payment_id")), "identifies"),
        (lambda f: f.head(0), "no rows"),
    ],
)
def test_a_file_that_says_too_little_is_refused(
    change: Callable[[pl.DataFrame], pl.DataFrame], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "events.parquet"
    change(payments().drop("amount")).write_parquet(source)
    code, answer = run(capsys, "init", "shop", "--from", source, "--out", tmp_path)
    assert code == 3
    assert says in answer["error"]["message"]  # type: ignore[index]
    assert answer["error"]["hint"]  # type: ignore[index]
    assert not (tmp_path / "shop.py").exists()


def test_init_writes_over_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shop.py").write_text("mine")
    payments().write_parquet(tmp_path / "events.parquet")
    assert run(capsys, "init", "shop", "--from", tmp_path / "events.parquet", "--out", tmp_path)[0] == 3
    assert (tmp_path / "shop.py").read_text() == "mine"


BROKEN = """from datetime import datetime
import headrace as hr
system = hr.System("broken")

@system.stream(id="nope", key="who", time="at")
class Order:
    who: int
    at: datetime

counts = system.windows(Order, by="who", over=["7d"], n=hr.count())

@system.stream(id="id", key="who", time="at")
class Visit:
    id: int
    who: int
    at: datetime

visits = system.windows(Visit, by="whom", over=["7d"], n=hr.count())
days = system.windows(Visit, by="who", over=["7 days"], n=hr.count())
"""


def test_check_finds_every_problem_and_no_consequence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    code, answer = run(capsys, "check", file)
    assert code == 3
    problems = answer["error"]["problems"]  # type: ignore[index]
    assert [problem["line"] for problem in problems] == [5, 18, 19]
    assert all(problem["hint"] for problem in problems)
    assert "`nope`" in problems[0]["message"]


@pytest.mark.parametrize(
    ("text", "line"), [("x = (\n", 1), ("import headrace as hr\n\nimport no_such_library\n", 3), ("a = 1\n", 0)]
)
def test_check_of_files_that_are_no_system(text: str, line: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.py"
    file.write_text(text)
    code, answer = run(capsys, "check", file)
    assert code == 3
    assert [problem["line"] for problem in answer["error"]["problems"]] == [line]  # type: ignore[index]


def test_doctor_tells_of_unfinished_appends_that_were_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "events"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format").write_text("1\n")
    SegmentLog(folder).append("t", 0, [b"torn"], sync=False)
    (segment,) = folder.glob("t/@0/*.segment")
    segment.write_bytes(segment.read_bytes()[:-1])
    assert SegmentLog(folder / ".").end("t", 0) == 0
    _, answer = run(capsys, "doctor", "--data", tmp_path / "data")
    (finding,) = [f for f in answer["findings"] if f["check"] == "event log"]  # type: ignore[attr-defined]
    assert finding["ok"]
    assert "1 unfinished appends" in finding["found"]
    assert str(folder / "t" / "@0" / f"{0:020d}.torn") in finding["found"]


def test_doctor_names_cause_and_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    data = tmp_path / "data"
    data.mkdir()
    (data / "format").write_text("99\n")
    reference = f"{tmp_path / 'broken.py'}:shop"
    code, answer = run(capsys, "doctor", reference, "--data", data)
    assert code == 1
    bad = {f["check"]: f for f in answer["findings"] if not f["ok"]}  # type: ignore[attr-defined]
    assert any(f["command"] == f"headrace check {reference}" for f in bad.values())
    assert "format 99" in bad["data format"]["cause"]
    assert bad["data format"]["command"].startswith("pip install")


BUSY = """from datetime import datetime
import headrace as hr
system = hr.System("busy")

@system.stream(id="id", key="who", time="at")
class Visit:
    id: int
    who: int
    at: datetime
    spent: float

small = system.windows(Visit, by="id", over=["7d"], spent=hr.sum("spent"))
large = system.windows(
    Visit, by="who", over=["9d"], spent=hr.sum("spent"), where=lambda spent: spent > 0)
"""


def test_check_demands_a_resolution_of_the_events_that_the_data_folder_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """500,000 events of one key in six days: 500,000**2 / 2. Another folder has none, the file alone tells nothing."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "busy.py"
    file.write_text(BUSY)
    settings = Settings(data=tmp_path / "data")
    prepare_data_folder(settings.data)
    assert run(capsys, "check", file, "--data", settings.data)[0] == 0
    seconds = pl.int_range(500_000, eager=True)
    frame = pl.DataFrame({"id": seconds, "who": pl.zeros(500_000, pl.Int64, eager=True)}).with_columns(
        at=pl.lit(START) + pl.duration(seconds="id"), spent=1.0
    )
    open_lake(settings).append("busy/streams/visit", frame, application="test", version=1)
    code, answer = run(capsys, "check", file, "--data", settings.data)
    assert code == 3
    (problem,) = answer["error"]["problems"]  # type: ignore[index]
    assert problem["line"] == 13
    assert problem["message"].startswith("the windows of view `who` would take about 1e+11 additions for 500000 asking points")
    assert "resolution=" in problem["hint"]
    assert run(capsys, "check", file)[0] == 0
    assert run(capsys, "check", file, "--data", tmp_path / "nowhere")[0] == 4
    file.write_text(BUSY.replace("where=", 'resolution="1h", where='))
    assert run(capsys, "check", file, "--data", settings.data)[0] == 0
