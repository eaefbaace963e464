"""Steps 2 to 4 of the story: events in, features, models, the first champion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from payments import EVENT, broken, lines
from published import FIGURES
from stage import SYSTEM, Stage

BROKEN, REDELIVERED = 50, 200
TRIALS = 10
SAMPLE_CUSTOMERS = 60
PUBLISHED_SAMPLE = "published_features_sample.parquet"
MODELS = ("logistic", "tree", "forest", "boosting")
CHOSEN = "boosting, the best of a search"


def events_in(stage: Stage) -> None:
    """Payments and reports up to the first test day enter through the log; broken events and redeliveries too."""
    with stage.step("events: history into the log") as bar:
        _ingest(stage, stage.plan.first, stage.plan.test_from)
        early = stage.payments_between(stage.plan.first, stage.plan.test_from)
        bar.say(f"{len(early):,} payments")
    with stage.step("events: broken and redelivered ones") as bar:
        first_id = int(stage.payments["tx_id"].max()) + 1  # type: ignore[arg-type]
        stage.door.send("transaction", broken(early, BROKEN, first_id, stage.seed))
        stage.door.send("transaction", lines(early.select(EVENT).tail(REDELIVERED)))
        stage.settle()
        entries = stage.door.command("quarantine", "list", "transaction")
        reasons = sorted({entry["reason"] for entry in entries})
        replayed = stage.door.command("quarantine", "replay", "transaction")
        status = {s["stream"]: s for s in stage.door.get("/streams")}
        stage.figures["quarantined"] = sum(s["quarantined"] for s in status.values())
        stage.figures["redelivered"] = sum(s["redelivered"] for s in status.values())
        bar.say(f"{len(entries)} in quarantine for {len(reasons)} reasons, {replayed['still_bad']} still bad on replay")


def _ingest(stage: Stage, start: Any, end: Any) -> None:
    """Import the payments and reports of [start, end) from files; the clock stands at `end` then."""
    stage.clock(end)
    for stream, frame in (
        ("transaction", stage.payments_between(start, end).select(EVENT)),
        ("fraud_report", stage.reports_between(start, end)),
    ):
        path = stage.scratch / f"{stream}-{start:%Y%m%d}.parquet"
        frame.write_parquet(path)
        stage.door.command("ingest", stream, path)
        path.unlink()
    stage.settle()


def features(stage: Stage) -> None:
    """Backfill of every payment's features; on the published file compared with the published values."""
    payments, reports, out = (stage.scratch / f"{name}.parquet" for name in ("payments", "reports", "features"))
    with stage.step("features: backfill of every payment") as bar:
        stage.given.select(EVENT).write_parquet(payments)
        stage.reports.write_parquet(reports)
        figures = _backfill(stage, payments, reports, out)
        stage.figures["backfill"] = {name: figures[name] for name in ("rows", "features", "seconds")}
        bar.say(f"{figures['rows']:,} rows x {figures['features']} features in {figures['seconds']:.1f} s")
    if stage.sample:
        with stage.step("features: against the published sample") as bar:
            compared, different = _against_sample(stage, out)
            stage.figures["published"] = {"rows_compared": compared, "rows_different": different, "models": []}
            bar.say(f"{different} of {compared:,} rows differ, each has a payment of its customer in the same second")
    with stage.step("features: without any report") as bar:
        stage.reports.clear().write_parquet(reports)
        _backfill(stage, payments, reports, out)
        risk = pl.read_parquet(out).select(pl.max_horizontal(pl.col("^terminal_risk_.*$")).max()).item()
        if risk != 0:
            raise AssertionError(f"a risk of {risk} without any report")
        bar.say("every risk is 0")
    for path in (payments, reports, out):
        path.unlink()


def _backfill(stage: Stage, payments: Path, reports: Path, out: Path) -> dict[str, Any]:
    figures: dict[str, Any] = stage.door.command(
        "features", "backfill", SYSTEM, "--stream", f"transaction={payments}", "--stream", f"fraud_report={reports}",
        "--spine", "transaction", "--order-by", "tx_id", "--out", out,
    )  # fmt: skip
    return figures


def _against_sample(stage: Stage, out: Path) -> tuple[int, int]:
    """Rows compared and rows that differ. A difference without an equal (customer, second) is an error."""
    sample = pl.read_parquet(stage.sample)
    ours = pl.read_parquet(out).with_columns(stage.payments["tx_id"])
    names = [name for name in sample.columns if name != "tx_id"]
    both = sample.join(ours, on="tx_id", suffix="_ours")
    close = [(pl.col(n).cast(pl.Float64) - pl.col(f"{n}_ours").cast(pl.Float64)).abs() < 1e-6 for n in names]
    different = both.filter(~pl.all_horizontal(close))["tx_id"]
    twice = stage.payments.filter(pl.struct("customer_id", pl.col("at").dt.truncate("1s")).is_duplicated())["tx_id"]
    unexplained = set(different) - set(twice)
    if unexplained or len(both) != len(sample):
        raise AssertionError(f"{len(unexplained)} published rows differ for no known reason: {sorted(unexplained)[:5]}")
    return len(both), len(different)


def models(stage: Stage) -> None:
    """The published models and a search on the training week; test figures once, after selection; the first champion."""
    plan = stage.plan
    week = ("--from", plan.train_from.isoformat(), "--to", plan.train_to.isoformat())
    runs = {}
    for model in MODELS:
        with stage.step(f"models: {model}"):
            runs[model] = stage.door.command("train", model, *week)
    with stage.step(f"models: the best of {TRIALS} boostings") as bar:
        runs[CHOSEN] = stage.door.command("train", "boosting", *week, "--trials", str(TRIALS))
        bar.say(", ".join(f"{name} {value:.3g}" for name, value in runs[CHOSEN]["parameters"].items()))
    with stage.step("events: the test week and its delay into the log"):
        _ingest(stage, plan.test_from, plan.start)
    table = []
    for model, run in runs.items():
        with stage.step(f"models: {model} on the test week") as bar:
            window = ("--from", plan.test_from.isoformat(), "--to", plan.test_to.isoformat())
            tested = stage.door.command("runs", "evaluate", run["id"], *window, "--history-from", plan.train_from.isoformat())
            row = {name: round(tested["metrics"][f"test.{name}"], 6) for name in FIGURES}
            table.append({"model": model, **row})
            bar.say(", ".join(f"{name} {value:.3f}" for name, value in row.items()))
    stage.figures["models"] = table
    if stage.sample:
        stage.figures["published"]["models"] = table
    with stage.step("registry: compile, prove, approve, release") as bar:
        number = stage.door.command("registry", "register", "boosting", "--run", runs[CHOSEN]["id"])["version"]
        stage.door.post(f"/registry/boosting/versions/{number}/approve", {"reason": "the best of the search"})
        stage.door.post("/rollouts", {"service": "scoring", "version": number, "reason": "the first champion"})
        stage.settle()
        stage.wait_until_served(number)
        version = next(v for v in stage.door.get("/registry/boosting/versions") if v["number"] == number)
        stage.figures["champion"] = {
            "version": number,
            "average_precision": table[-1]["average_precision"],
            "engine": version["engine"],
            "parity_max_difference": version["proof"]["max_difference"],
        }
        bar.say(f"version {number} by {version['engine']}, differs by at most {version['proof']['max_difference']:.1e}")
