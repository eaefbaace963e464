from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import headrace.pipelines.tables  # noqa: F401
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import CheckFailed, Conflict, EngineUnreachable
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.pipelines.runs import pipelines
from headrace.pipelines.steps import Pipeline


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return open_world(tmp_path / "data")


def open_world(data: Path, system: str = "shop") -> Context:
    return open_context(Settings(data=data), system, Specs(), clock=FixedEventClock(0))


def noted(path: Path, word: str) -> str:
    with path.open("a") as file:
        file.write(f"{word}\n")
    return word


def killed(path: Path) -> str:
    noted(path, "third")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def story(data: Path, notes: Path, *, kill: bool) -> list[str]:
    with Pipeline(open_world(data), "story", "monday") as pipeline:
        first = pipeline.step("first", noted, notes, "first")
        second = pipeline.step("second", noted, notes, "second")
        third = pipeline.step("third", killed, notes) if kill else pipeline.step("third", noted, notes, "third")
        return [first, second, third]


def test_after_sigkill_in_a_step_only_that_step_and_the_later_ones_run(tmp_path: Path) -> None:
    data, notes = tmp_path / "data", tmp_path / "notes"
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom test_pipelines import story\n"
        "story(Path(sys.argv[1]), Path(sys.argv[2]), kill=True)"
    )
    died = subprocess.run([sys.executable, "-c", program, str(data), str(notes)], check=False)
    assert died.returncode == -signal.SIGKILL
    ctx = open_world(data)
    (left,) = pipelines(ctx, "story")
    assert (left.key, left.state, [(s.name, s.state) for s in left.steps]) == (
        "monday", "running", [("first", "finished"), ("second", "finished"), ("third", "running")],
    )  # fmt: skip
    assert story(data, notes, kill=False) == ["first", "second", "third"]
    assert notes.read_text().split() == ["first", "second", "third", "third"]
    (done,) = pipelines(ctx)
    assert (done.state, [s.attempts for s in done.steps]) == ("finished", [1, 1, 2])
    assert story(data, notes, kill=False) == ["first", "second", "third"]
    assert notes.read_text().split() == ["first", "second", "third", "third"]


@dataclass
class Record:
    number: int
    names: tuple[str, ...]


def test_a_result_is_the_same_plain_json_at_first_and_when_resumed(ctx: Context) -> None:
    results = []
    for _ in range(2):
        with Pipeline(ctx, "story", "k") as pipeline:
            results.append(pipeline.step("make", Record, 3, ("a", "b")))
            assert pipeline.step("nothing", lambda: None) is None
    assert results == [{"number": 3, "names": ["a", "b"]}] * 2


def test_a_pipeline_is_single_flight_by_key(ctx: Context) -> None:
    with Pipeline(ctx, "story", "k"):
        with pytest.raises(Conflict, match="already running"):
            Pipeline(ctx, "story", "k")
        with Pipeline(ctx, "story", "other"), Pipeline(ctx, "tale", "k"):
            pass
    with Pipeline(ctx, "story", "k"):
        pass


def test_an_error_fails_the_pipeline_and_opening_it_again_retries_the_step(ctx: Context) -> None:
    def refuse() -> None:
        raise CheckFailed("not good enough")

    with pytest.raises(CheckFailed), Pipeline(ctx, "story", "k") as pipeline:
        pipeline.step("first", lambda: 1)
        pipeline.step("second", refuse)
    (failed,) = pipelines(ctx)
    assert (failed.state, failed.error) == ("failed", "not good enough")
    assert [(s.state, s.error) for s in failed.steps] == [("finished", ""), ("failed", "not good enough")]
    with Pipeline(ctx, "story", "k") as pipeline:
        (again,) = pipelines(ctx)
        assert (again.state, again.error, again.ended_at) == ("running", "", None)
        assert pipeline.step("first", lambda: 99) == 1
        assert pipeline.step("second", lambda: 2) == 2
    assert pipelines(ctx)[0].state == "finished"


@pytest.mark.parametrize("error", [EngineUnreachable("no engine"), KeyboardInterrupt(), SystemExit()])
def test_what_a_retry_can_help_leaves_it_unfinished(ctx: Context, error: BaseException) -> None:
    def interrupted() -> None:
        raise error

    with pytest.raises(type(error)), Pipeline(ctx, "story", "k") as pipeline:
        pipeline.step("first", interrupted)
    assert [(p.key, p.state) for p in pipelines(ctx)] == [("k", "running")]
    with Pipeline(ctx, "story", "k"):
        pass
    assert pipelines(ctx)[0].state == "finished"


def test_a_step_whose_result_is_no_json_fails_and_says_so(ctx: Context) -> None:
    with pytest.raises(TypeError), Pipeline(ctx, "story", "k") as pipeline:
        pipeline.step("first", object)
    assert pipelines(ctx)[0].steps[0].state == "failed"


def test_systems_do_not_see_each_other(tmp_path: Path) -> None:
    shop, bank = open_world(tmp_path / "data"), open_world(tmp_path / "data", "bank")
    with Pipeline(shop, "story", "k") as one, Pipeline(bank, "story", "k") as other:
        assert one.step("first", lambda: "shop") == "shop"
        assert other.step("first", lambda: "bank") == "bank"
    assert [p.steps[0].result for p in pipelines(bank)] == ["bank"]
