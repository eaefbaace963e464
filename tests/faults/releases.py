"""Phase 5: rollouts move by policy and by hand while the processes are killed; the ledger has each act once."""

from __future__ import annotations

import json
import queue
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from killing import KILLS, Line, Lost, until
from orders_system import day, orders
from trainings import predict_all

HOUR = timedelta(hours=1)
ENDED = ("promoted", "rolled_back")
CYCLE = ("start", "hold", "resume", "promote", "start", "hold", "rollback")


@dataclass
class Acts:
    """What a person did by hand, each act with a reason of its own, and which of them were acknowledged."""

    tried: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    def act(self, line: Line, name: str) -> None:
        """Try once. An act that is refused because an unanswered one before it was done after all counts for nothing."""
        reason = f"act {len(self.tried)}"
        self.tried[reason] = name
        try:
            if name == "start":
                champion = line.ask("GET", "/api/v1/services")[1][0]["champion"]
                body = {"service": "scoring", "version": 3 - champion, "reason": reason}
                status, answer = line.ask("POST", "/api/v1/rollouts", json.dumps(body).encode())
            else:
                path = f"/api/v1/rollouts/scoring/{name}"
                status, answer = line.ask("POST", path, json.dumps({"reason": reason}).encode())
        except Lost:
            line.wait_until_up()
            return
        assert status == 200 or answer["error"]["code"] == "conflict", answer
        if status == 200 and reason in [event["reason"] for event in answer["events"]]:
            self.acknowledged.add(reason)
        else:  # a hold of what an unanswered act before it left held says so and does nothing
            assert status != 200 or (name, answer["state"]) == ("hold", "held"), answer


def by_policy(line: Line, kills: int, seed: int) -> tuple[dict[str, Any], int]:
    """Let the rollout of the retrained version go its way; kill the parent as the clock passes the end of a step, and serve
    while it takes over the routes. Returns the ended rollout and the number of kills, at most `kills`."""
    before = KILLS["promotion"]
    now = day(26)
    for number in range(20):
        asked = orders(seed + number, 100_000 + 1_000 * number, now, now + timedelta(minutes=4), 400, dearer=3.0)
        predict_all(line, asked)
        line.settle()
        now += HOUR
        line.post("/clock", {"now": now.isoformat()})
        if KILLS["promotion"] - before < kills:
            line.pause(0.3)
            line.kill("promotion", "serve" if number % 3 == 2 else "parent")
            line.wait_until_up()
        line.settle()
        rollout = line.get("/rollouts")[0]
        if rollout["state"] == "held":  # its scores are the other way round, which a person knows to be right
            line.post("/rollouts/scoring/resume", {"reason": "the scores are meant to differ"})
        if rollout["state"] in ENDED:
            break
    return dict(line.get("/rollouts")[0]), KILLS["promotion"] - before


def by_hand(line: Line, kills: int) -> Acts:
    """Rollouts started, held, resumed, promoted and rolled back without a pause, with `kills` kills in it."""
    acts = Acts()
    more: queue.SimpleQueue[None] = queue.SimpleQueue()

    def person() -> None:
        while more.empty():
            for name in CYCLE:
                acts.act(line, name)

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(person)
        try:
            for _ in range(kills):
                done = len(acts.acknowledged)
                until(lambda done=done: len(acts.acknowledged) >= done + 3 or acting.done(), "it is acted")
                line.pause(0.1)
                line.kill("promotion", "parent")
                line.wait_until_up()
        finally:
            more.put(None)
        acting.result()
    line.settle()
    return acts


def outbox(line: Line) -> list[dict[str, Any]]:
    """The audit records in order, once the sequencer has made a leaf of each."""

    def rows() -> list[dict[str, Any]] | None:
        with sqlite3.connect(f"file:{line.data}/catalog.sqlite?mode=ro", uri=True) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute("SELECT * FROM outbox ORDER BY sequence")]
        return None if any(row["leaf"] is None for row in found) else found

    found: list[dict[str, Any]] = until(rows, "every record has its leaf")
    return [{**row, "payload": json.loads(row["payload"])} for row in found]


def check_releases(line: Line, acts: Acts) -> None:
    """Deployments, routes and records agree; an acknowledged act was done once, any other one at most once."""
    line.settle()
    deployments = line.get("/deployments/scoring")
    generations = [deployment["generation"] for deployment in deployments]
    assert generations == list(range(len(generations), 0, -1))
    newest = deployments[0]
    served = until(lambda: _taken_over(line, newest), "the serve process has the newest routes")
    for name in ("champion", "challenger", "weight", "shadows", "generation"):
        assert served[name] == newest[name], (served, newest)
    records = outbox(line)
    changed = {r["payload"]["generation"]: r["payload"] for r in records if r["kind"] == "deployment.changed"}
    assert sum(r["kind"] == "deployment.changed" for r in records) == len(changed) == len(deployments)
    for deployment in deployments:
        of = changed[deployment["generation"]]
        assert all(deployment[name] == value for name, value in of.items()), (deployment, of)
    happened: Counter[str] = Counter()
    for rollout in line.get("/rollouts"):
        events = [(event["from"], event["to"], event["reason"]) for event in rollout["events"]]
        happened.update(reason for _, _, reason in events)
        noted = [r["payload"] for r in records if r["kind"].startswith("rollout.") and r["subject"] == rollout["id"]]
        assert [(r["from"], r["to"], r["reason"]) for r in noted if "phase" not in r] == events
        assert rollout["state"] == events[-1][1]
    for reason in acts.tried:
        assert happened[reason] <= 1, "an act was done twice"
        assert happened[reason] == 1 or reason not in acts.acknowledged, "an acknowledged act was lost"
    _check_operations(records, acts)


def _taken_over(line: Line, newest: dict[str, Any]) -> dict[str, Any] | None:
    served: dict[str, Any] = line.get("/services")[0]
    named = {served["champion"], served["challenger"], *served["shadows"]} - {None}
    return served if served["generation"] == newest["generation"] and named <= set(served["warm"]) else None


def _check_operations(records: list[dict[str, Any]], acts: Acts) -> None:
    """Each act by hand is audited: that it began once, and once that it was done if that was acknowledged."""
    begun: dict[str, list[str]] = {}
    ended: Counter[str] = Counter()
    for record in records:
        payload = record["payload"]
        if payload.get("phase") == "begun" and "reason" in payload["arguments"]:
            begun.setdefault(payload["arguments"]["reason"], []).append(record["id"])
        elif payload.get("phase") == "done":
            ended[payload["of"]] += 1
    for reason in acts.tried:
        ids = begun.get(reason, [])
        assert len(ids) <= 1
        assert reason not in acts.acknowledged or [ended[one] for one in ids] == [1], reason


def check_ledger(line: Line, folder: Path, saved: str) -> None:
    """The ledger verifies, continues the checkpoint saved before the kills, and has one leaf for each record."""
    (folder / "saved").write_text(saved)
    while True:
        records = outbox(line)
        verified = line.command("audit", "verify", "--checkpoint", folder / "saved")
        if verified["leaves"] == len(outbox(line)) == len(records):
            break
    assert verified["verified"], verified["bad"]
    assert [record["leaf"] for record in records] == list(range(len(records)))
    entries = _entries(line.data / "audit" / "tile" / "entries", len(records))
    assert [json.loads(entry)["id"] for entry in entries] == [record["id"] for record in records]
    topic = [r["payload"] for r in records if r["kind"] == "predictions"]
    assert [batch["from"] for batch in topic] == [0, *(batch["to"] for batch in topic[:-1])], "each prediction is in one leaf"


def _entries(folder: Path, size: int) -> list[bytes]:
    """The entries of the first `size` (below 256,000) leaves: C2SP tlog-tiles, bundles of 256."""
    found: list[bytes] = []
    for index in range(-(-size // 256)):
        width = min(256, size - index * 256)
        path = folder / f"{index:03}"
        content = path.read_bytes() if width == 256 else (folder / f"{index:03}.p" / str(width)).read_bytes()
        at = 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 2], "big")
            found.append(content[at + 2 : at + 2 + length])
            at += 2 + length
    return found
