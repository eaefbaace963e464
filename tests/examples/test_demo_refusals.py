"""What `headrace demo` refuses before it does anything, and how it ends on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from fraud_modules import fraud

HEADRACE = str(Path(sys.executable).with_name("headrace"))


def refused(folder: Path, *arguments: object) -> tuple[int, dict[str, str], str]:
    """(exit code, error, stderr) of a demo that does not begin; its temporary files would be in `folder`/tmp."""
    (folder / "tmp").mkdir(exist_ok=True)
    answer = subprocess.run(
        [HEADRACE, "demo", *map(str, arguments), "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(folder / "tmp")},
    )  # fmt: skip
    assert answer.stdout, answer.stderr
    assert list((folder / "tmp").iterdir()) == []
    error: dict[str, str] = json.loads(answer.stdout)["error"]
    assert error["hint"]
    return answer.returncode, error, answer.stderr


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("kept")
    code, error, told = refused(tmp_path, "--data", mine)
    assert (code, told) == (3, "")
    assert f"`{mine}` is not an empty folder" in error["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "tmp"]
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_a_report_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    code, error, told = refused(tmp_path, "--report", tmp_path / "absent" / "r.json")
    assert (code, told) == (3, "")
    assert str(tmp_path / "absent" / "r.json") in error["message"]


def test_too_few_payments_are_a_wrong_use(tmp_path: Path) -> None:
    code, error, _ = refused(tmp_path, "--payments", 19_999)
    assert code == 2
    assert "20000" in error["message"]


SHOPS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "no terminal": (lambda f: f.drop("terminal_id", "is_fraud"), "no column `terminal_id`, `is_fraud`"),
    "no frauds": (lambda f: f.with_columns(is_fraud=pl.lit(False)), "no frauds on several days of the training week"),
    "text": (lambda f: f.with_columns(amount=pl.lit("a lot")), "column `amount` is no Float64"),
    "an empty value": (
        lambda f: f.with_columns(customer_id=pl.when(pl.col("tx_id") > 3).then("customer_id")),
        "column `customer_id` has 4 empty values",
    ),
    "one id": (lambda f: f.with_columns(tx_id=pl.lit(7)), "`tx_id` repeats"),
    "few days": (lambda f: f.head(3000), "needs payments of 173 days, these are of"),
    "no rows": (lambda f: f.head(0), "no payments"),
}


@pytest.mark.parametrize("shop", SHOPS)
def test_a_file_that_the_story_cannot_be_told_with_is_refused(shop: str, tmp_path: Path) -> None:
    change, says = SHOPS[shop]
    path = tmp_path / "shop.parquet"
    change(fraud("generator").generate(20_000)).write_parquet(path)
    code, error, told = refused(tmp_path, "--transactions", path)
    assert (code, told) == (3, "")
    assert says in error["message"]


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    code, error, _ = refused(tmp_path, "--transactions", tmp_path / "nope.parquet")
    assert code == 4
    assert "nope.parquet" in error["message"]


def family(pid: int) -> set[int]:
    """The process and its descendants."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= family(int(child))
    return found


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie of a container that has no init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


TRAINING = "run/fraud/jobs/*.log"
MOMENTS = ("format", "run/fraud/ready.json", TRAINING, "lake/fraud/streams/transaction")
"""While `headrace run` starts, when it is ready, while a model is trained, while predictions are asked for."""


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "run/fraud/ready.json"),
        pytest.param(signal.SIGINT, TRAINING, marks=pytest.mark.slow),
        *(pytest.param(signal.SIGTERM, moment, marks=pytest.mark.slow) for moment in MOMENTS),
    ],
)
def test_a_demo_that_is_stopped_during_a_step_leaves_nothing_behind(number: int, moment: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts pytest with `&` has it ignored
    demo = subprocess.Popen(
        [HEADRACE, "demo", "--payments", "20000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob(f"tmp/headrace-demo-*/data/{moment}")):
        assert demo.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    started = family(demo.pid)
    assert len(started) > 1
    demo.send_signal(number)
    _, told = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert told.rstrip().endswith("error: the demo was stopped\nhint: give the same command again: it begins anew")
    assert "Traceback" not in told
    assert "Task" not in told
    assert list((tmp_path / "tmp").iterdir()) == []
    deadline = time.monotonic() + 10
    while any(map(runs, started)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
