"""Phases 2 and 4: a dataset is built and a model trained on it, then a retraining by policy, while processes are killed."""

from __future__ import annotations

import json
import math
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
from deliveries import applied, open_world
from killing import KILLS, Line, Lost, until
from orders_system import Event, Windows, day, lines, micros, orders, text

from headrace.data.datasets import load
from headrace.data.history import log_history

TRAIN = {"model": "trouble", "from": text(day(3)), "to": text(day(11))}
EVERYTHING = 1 << 60
"""A position behind every event."""


def train(line: Line) -> tuple[int, Any] | None:
    """(status, answer) of a training, None when there was no answer."""
    try:
        return line.ask("POST", "/api/v1/training", json.dumps(TRAIN).encode())
    except Lost:
        return None


def build_and_train(line: Line, kills: int, folder: Path) -> dict[str, Any]:
    """Train with kills in it, and the backfill of files too; then train once to the end; returns the run."""
    before = KILLS["backfill"]
    with ThreadPoolExecutor(1) as pool:
        while (number := KILLS["backfill"] - before) < kills:
            if number % 4 == 3:
                backfill_files(line, folder)
                continue
            answer: Future[tuple[int, Any] | None] = pool.submit(train, line)
            if number % 4 == 1:
                until(lambda answer=answer: line.compute_pid() or answer.done(), "the training has a child")
                line.pause(1.0)
                if line.compute_pid() is not None:
                    line.kill("backfill", "compute")
            else:
                line.pause(0.5)
                line.kill("backfill", "parent")
            result = answer.result()
            assert result is None or result[0] == 200, result
            check_datasets(line)
    finished: dict[str, Any] = line.post("/training", TRAIN)
    return finished


def backfill_files(line: Line, folder: Path) -> None:
    """`headrace features backfill` over an earlier result, killed: the result is the earlier one, or the whole new one."""
    out = folder / "features.parquet"
    ctx = open_world(line)
    try:
        paths = {stream: folder / f"{stream}.parquet" for stream in ("order", "complaint")}
        for stream, path in paths.items():
            log_history(ctx, stream).drop("_offset", "_created").write_parquet(path)
    finally:
        ctx.close()
    streams = [word for stream, path in paths.items() for word in ("--stream", f"{stream}={path}")]
    given = ["features", "backfill", line.file, *streams, "--spine", "order", "--out", out]
    rows = line.command(*given)["rows"]
    earlier = pl.read_parquet(out)
    assert earlier.height == rows
    process = line.popen(*given)
    line.pause(1.5)
    if process.poll() is None:
        process.kill()
        KILLS["backfill"] += 1
    process.communicate()
    assert pl.read_parquet(out).equals(earlier)


def check_datasets(line: Line) -> None:
    """However often it was killed: at most one version of the dataset, and that is whole."""
    pinned = line.get("/datasets")
    assert len(pinned) <= 1, "equal inputs and equal content are one version"
    if pinned:
        ctx = open_world(line)
        try:
            frame = load(ctx, f"{pinned[0]['name']}@{pinned[0]['version']}")  # it compares the content with its hash
        finally:
            ctx.close()
        assert frame.height == pinned[0]["rows"]


def check_training(line: Line, run: dict[str, Any]) -> None:
    """The one dataset version has the values of a plain loop; one run is finished, no other has artifacts or seems to run."""
    check_datasets(line)
    (pinned,) = line.get("/datasets")
    assert run["dataset"] == f"{pinned['name']}@{pinned['version']}"
    ctx = open_world(line)
    try:
        frame = load(ctx, run["dataset"])
        asked, told = (applied(log_history(ctx, stream)) for stream in ("order", "complaint"))
    finally:
        ctx.close()
    compare_with_loop(frame, Windows(asked, told), {order.offset: order.fields for order in asked})
    for other in line.get("/runs"):
        if other["status"] == "failed":
            assert not other["artifacts"] and other["error"], other
        else:
            assert other["status"] == "finished", other


def compare_with_loop(frame: pl.DataFrame, windows: Windows, orders_by_offset: dict[int, Event]) -> None:
    for row in frame.iter_rows(named=True):
        own = row["_own"]
        positions = {"customer": {"order": own}, "till": {"order": own, "complaint": EVERYTHING}}
        expected = windows.features(orders_by_offset[own], micros(row["at"]), positions)
        for name, value in expected.items():
            assert equal(row[name], value), (row, name, value)


def equal(found: float | None, expected: float | None) -> bool:
    """Equal but for the order of additions."""
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-12)


def register_and_release(line: Line, run: dict[str, Any]) -> None:
    """The first champion."""
    version = line.post("/registry/trouble/versions", {"run": run["id"]})["version"]
    line.post(f"/registry/trouble/versions/{version}/approve", {"reason": "the first one"})
    line.post("/rollouts", {"service": "scoring", "version": version})
    until(lambda: line.get("/services")[0]["warm"] == [version], "it serves")


def shifted_orders(seed: int, first_id: int, number: int) -> list[Event]:
    """Orders of day 25 that are three times as dear as before: the drift that leads to the retraining. The clock is at
    the end of that day when they are asked about."""
    return orders(seed, first_id, day(25), day(26), number, dearer=3.0)


def predict_all(line: Line, asked: list[Event], at_once: int = 200) -> list[dict[str, Any]]:
    """The answers to many requests, in batches; nobody is killed meanwhile."""
    found: list[dict[str, Any]] = []
    for place in range(0, len(asked), at_once):
        body = json.dumps({"rows": asked[place : place + at_once]}).encode()
        status, answer = line.ask("POST", "/services/scoring/predict/batch", body)
        assert status == 200, answer
        found += answer["predictions"]
    return found


def steps_of(line: Line) -> dict[str, dict[str, Any]]:
    """The steps of the one retraining pipeline by name."""
    pipelines = line.get("/pipelines")
    assert len(pipelines) <= 1
    return {step["name"]: step for step in pipelines[0]["steps"]} if pipelines else {}


PLAN = (
    ("train", "compute"), ("register", "parent"), ("dataset", "retrain"), ("dataset", "parent"), ("train", "retrain"),
    ("train", "parent"), ("register", "compute"), ("register", "parent"), ("register", "retrain"),
)  # fmt: skip
"""Where to kill what: `compute` is the child that trains or compiles, `retrain` its parent, the child that retrains."""
ORDER = ("dataset", "parameters", "train", "register", "compare", "approve", "release")


def retrain(line: Line, kills: int) -> None:
    """Let the clock reach the end of the drifting day and kill what retrains, `kills` times, until it has ended.

    A step that was finished at a kill must not have run again.
    """
    before = KILLS["training"]
    line.post("/clock", {"now": day(26).isoformat()})
    until(lambda: line.get("/retrainings"), "the retraining begins")
    finished: dict[str, dict[str, Any]] = {}
    for step, target in sorted(PLAN[: kills - 1], key=lambda planned: ORDER.index(planned[0])):
        until(lambda step=step: step in steps_of(line), f"the step `{step}` begins")
        if target != "parent":
            until(lambda target=target: line.compute_pid(eldest=target == "retrain"), "the retraining has a child")
        line.pause(0.5)
        _remember(line, finished)
        line.kill("training", target)
    _await_end(line, finished)
    while KILLS["training"] - before < kills:
        line.kill("training", "parent", meanwhile=lambda: _take_back_last_steps(line, finished))
        _await_end(line, finished)


def _await_end(line: Line, finished: dict[str, dict[str, Any]]) -> None:
    until(lambda: line.get("/retrainings")[0]["state"] != "running", "the retraining ends", 120)
    _remember(line, finished)


def _take_back_last_steps(line: Line, finished: dict[str, dict[str, Any]]) -> None:
    """The catalog as a kill leaves it right after the approval and the start of the rollout were committed, before the ends
    of these steps were: moments too short to be met by chance."""
    with sqlite3.connect(line.data / "catalog.sqlite", timeout=30) as connection:
        for name in ("approve", "release"):
            taken = "UPDATE pipeline_steps SET state = 'running', ended_at = NULL, seconds = NULL, result = NULL WHERE name = ?"
            assert connection.execute(taken, [name]).rowcount == 1
            finished.pop(name, None)
        connection.execute("UPDATE pipelines SET state = 'running', ended_at = NULL")
        connection.execute("UPDATE retrainings SET state = 'running'")
    connection.close()


def _remember(line: Line, finished: dict[str, dict[str, Any]]) -> None:
    """What was finished is still what it was: the same result, the same seconds, no further attempt."""
    for name, step in steps_of(line).items():
        if step["state"] == "finished":
            assert finished.setdefault(name, step) == step, "a finished step was run again"


def check_retraining(line: Line) -> dict[str, Any]:
    """One retraining, all of its steps finished once, one new version, approved once, and one rollout of it."""
    (retraining,) = line.get("/retrainings")
    assert retraining["state"] == "released", retraining
    (pipeline,) = line.get("/pipelines")
    assert pipeline["state"] == "finished"
    assert [step["name"] for step in pipeline["steps"] if step["name"] in ORDER] == list(ORDER)
    assert {step["state"] for step in pipeline["steps"]} == {"finished"}
    versions = line.get("/registry/trouble/versions")
    assert sorted(version["number"] for version in versions) == [1, 2]
    assert len(line.get("/registry/trouble/versions/2")["approvals"]) == 1
    assert {run["status"] for run in line.get("/runs")} <= {"finished", "failed"}
    rollouts = [rollout for rollout in line.get("/rollouts") if rollout["challenger"] == 2]
    assert len(rollouts) == 1
    datasets = line.get("/datasets")
    assert len(datasets) == 2
    assert retraining["dataset"] == f"{datasets[1]['name']}@{datasets[1]['version']}"
    return dict(retraining)


def send_orders(line: Line, events: list[Event]) -> None:
    status, answer = line.ask("POST", "/streams/order/events", lines(events), Content_Type="application/x-ndjson")
    assert status == 200, answer
