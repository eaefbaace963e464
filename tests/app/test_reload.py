"""A running system changes what it declares: nothing stops, nothing is missing or counted twice."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from reload_world import (
    BRING_ALONG,
    CARDS,
    DAY,
    EVERYONE,
    FITTED,
    OTHER_CARD,
    REFUNDS,
    Traffic,
    all_applied,
    append,
    check_logged,
    check_values,
    parity,
    promote,
    release,
    reload,
    sale,
    service,
    system,
    until,
)
from running import Running


@pytest.mark.slow
@pytest.mark.parametrize("appliers", [1, 2])
def test_a_feature_is_added_while_events_flow_and_predictions_are_asked(tmp_path: Path, appliers: int) -> None:
    file = tmp_path / "shop.py"
    file.write_text(system(partitions=4))
    with Running(tmp_path / "data", "--appliers", appliers, "--log-level", "info", file=file) as run:
        with Traffic(run, first=4_000) as traffic:
            assert release(run, tmp_path, [0.01, 0.002]) == 1
            until(lambda: service(run)["warm"] == [1])
            traffic.asking = True
            until(lambda: traffic.answers.get(1, 0) > 100)
            file.write_text(system(partitions=4, new=True))
            found = reload(run)
            assert (found["adopted"], found["removed"], found["changed"]) == (True, [], ["model silent"])
            assert found["added"] == ["view busy", "view last", "features twice"]
            assert release(run, tmp_path, [0.01, 0.002, 0.1, -0.001, 0.01, 0.0001]) == 2
            until(lambda: traffic.answers.get(2, 0) > 100, lambda: (traffic.answers, traffic.failures[:3]))
            assert traffic.answers[1] > 100
        assert traffic.failures == []
        until(lambda: all_applied(run, len(traffic.sent)))
        check_values(run, traffic.sent, new=True)
        found = parity(run)
        assert (found["values_different"], found["values_compared"]) == (
            0, 2 * traffic.answers[1] + 6 * traffic.answers[2],
        )  # fmt: skip
    handed_over = re.findall(r"view.handed_over .*partition=(\d)", run.log.read_text())
    assert sorted(handed_over) == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_two_definitions_of_one_feature_answer_side_by_side(tmp_path: Path) -> None:
    """Version 1 was made with one definition of `card`, version 2 with another; the file has only the newer."""
    file = tmp_path / "shop.py"
    file.write_text(system())
    with Running(tmp_path / "data", "--log-level", "info", file=file) as run:
        with Traffic(run, first=2_000) as traffic:
            assert release(run, tmp_path, [0.01, 0.002]) == 1
            until(lambda: service(run)["warm"] == [1])
            traffic.asking = True
            until(lambda: traffic.answers.get(1, 0) > 50)
            file.write_text(system(card=OTHER_CARD))
            assert reload(run)["changed"] == ["view card", "model silent"]
            assert release(run, tmp_path, [0.01, 0.004]) == 2
            until(lambda: min(traffic.answers.get(version, 0) for version in (1, 2)) > 100, lambda: traffic.failures[:3])
        assert traffic.failures == []
        until(lambda: all_applied(run, len(traffic.sent)))
        assert parity(run)["values_different"] == 0
        by_version = check_logged(run, traffic.sent, tmp_path / "log.parquet")
        assert by_version[1] >= traffic.answers[1] and by_version[2] >= traffic.answers[2]
        listed = run.ask("GET", "/api/v1/features")[1]
        assert [(one["name"], one["versions"]) for one in listed] == [("card", []), ("card", ["silent@1"])]
    with Running(tmp_path / "data", file=file) as run:  # and after a restart with the newer file
        until(lambda: service(run)["warm"] == [1, 2])
        traffic.run, before = run, dict(traffic.answers)
        with traffic.going_on():
            until(lambda: all(traffic.answers[version] > before[version] + 20 for version in (1, 2)))
        assert traffic.failures == []
        assert parity(run)["values_different"] == 0
        promote(run)
        assert release(run, tmp_path, [0.01, 0.006]) == 3
        until(lambda: service(run)["warm"] == [2, 3])
        promote(run)
    assert "view.dropped" not in run.log.read_text()  # a rollback from 2 would have brought version 1 back
    with Running(tmp_path / "data", "--log-level", "info", file=file) as run:
        assert [one["name"] for one in run.ask("GET", "/api/v1/features")[1]] == ["card"]
    (dropped,) = re.findall(r"view.dropped .*keys=(\d+)", run.log.read_text())
    assert int(dropped) >= CARDS + 1  # a long state has two keys


@pytest.mark.slow
def test_a_kill_while_a_feature_is_built_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The work process dies with a part of the history applied; the next one goes on from there."""
    file, events = tmp_path / "shop.py", tmp_path / "sales.parquet"
    file.write_text(system())
    sent = [sale(number) for number in range(400_000)]
    pl.DataFrame(sent).write_parquet(events)

    def busy(run: Running) -> dict[str, Any]:
        listed = {one["name"]: one for one in run.ask("GET", "/api/v1/features")[1]}
        return dict(listed.get("busy", {"position": {"sale": -1}, "built": False}))

    with Running(tmp_path / "data", "--log-level", "info", file=file) as run:
        assert run.command("ingest", "sale", events)[0] == 0
        until(lambda: all_applied(run, len(sent)))
        file.write_text(system(new=True))
        assert reload(run)["adopted"]
        until(lambda: busy(run)["position"]["sale"] >= 0)
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    assert "view.handed_over" not in run.log.read_text()
    with Running(tmp_path / "data", file=file) as run:
        append(run, later := [sale(number) for number in range(len(sent), len(sent) + 1_000)])
        until(lambda: all_applied(run, len(sent + later)))
        until(lambda: all(one["built"] is not False for one in run.ask("GET", "/api/v1/features")[1]))
        check_values(run, sent + later, new=True)


@pytest.mark.slow
def test_a_kill_while_a_rekeyed_feature_is_built_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """It is built beside the stream; the topic keeps what comes meanwhile."""
    file, events = tmp_path / "shop.py", tmp_path / "sales.parquet"
    file.write_text(system(partitions=2))
    sent = [sale(number) for number in range(400_000)]
    pl.DataFrame(sent).write_parquet(events)

    def applied(run: Running) -> int:
        listed = {one["name"]: one["position"]["sale"] + 1 for one in run.ask("GET", "/api/v1/features")[1]}
        return listed.get("everyone", 0)

    with Running(tmp_path / "data", "--log-level", "info", file=file) as run:
        assert run.command("ingest", "sale", events)[0] == 0
        until(lambda: all_applied(run, len(sent)))
        file.write_text(system(partitions=2) + EVERYONE)
        assert reload(run)["added"] == ["view everyone"]
        until(lambda: "view.rebuilding" in run.log.read_text())
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        assert "view.handed_over" not in run.log.read_text()
    with Running(tmp_path / "data", "--log-level", "info", file=file) as run:
        sent += (later := [sale(number) for number in range(len(sent), len(sent) + 1_000)])
        append(run, later)
        until(lambda: all_applied(run, len(sent)))
        until(lambda: applied(run) == len(sent))
        at = max(row["at"] for row in sent)
        asked = json.dumps({"field": [], "at": at.isoformat()}).encode()
        status, found, _ = run.ask("POST", "/api/v1/features/everyone/values", asked)
        day = [row["amount"] for row in sent if at - DAY < row["at"] <= at]
        assert status == 200 and found["values"] == {"everyone_count_1d": len(day), "everyone_sum_1d": sum(day)}
        assert "view.handed_over views=['everyone']" in run.log.read_text()


@pytest.mark.slow
def test_what_was_adopted_is_trained_and_a_stream_may_be_added(tmp_path: Path) -> None:
    file, events = tmp_path / "shop.py", tmp_path / "sales.parquet"
    file.write_text(system())
    pl.DataFrame([sale(number) for number in range(30_000)]).write_parquet(events)
    with Running(tmp_path / "data", "--appliers", "2", "--log-level", "info", file=file) as run:
        assert run.command("ingest", "sale", events)[0] == 0
        until(lambda: all_applied(run, 30_000))
        file.write_text(system().replace(BRING_ALONG, FITTED) + REFUNDS)
        assert reload(run)["added"] == ["stream refund", "view refunds"]
        file.write_text("this is no system yet")  # what is being edited is nobody's code
        status, made, _ = run.ask("POST", "/api/v1/training", b'{"model": "silent", "from": "2026-01-02", "to": "2026-01-03"}')
        assert status == 200 and made["status"] == "finished", made
        body = b'{"n": 1, "card": 7, "at": "2026-01-03T00:00:00Z"}'
        assert run.ask("POST", "/streams/refund/events", body)[0] == 200
        asked = b'{"field": ["card=7"], "at": "2026-01-03T01:00:00Z"}'
        read = "/api/v1/features/refunds/values"
        until(lambda: run.ask("POST", read, asked)[1]["values"] == {"refunds_count_1d": 1})
        append(run, [sale(30_000)])
        until(lambda: run.ask("GET", "/api/v1/streams")[1][0]["accepted"] == 30_001)
