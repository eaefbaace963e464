"""Steps 5 and 8 to 10 of the story: every answer was right, every feature can be recomputed, every record is proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from client import Answer
from golden import golden_scores
from rich.console import Console
from stage import Stage

SLOW_SECONDS = 1.0


def answers(stage: Stage, asked: list[tuple[int, Answer]]) -> None:
    """Count the failed: not 200, reset, slower than a second, or not the golden answer of the version named."""
    with stage.step("answers: against the golden ones") as bar:
        out = stage.scratch / "predictions.parquet"
        stage.door.command("predictions", "export", "scoring", "--out", out)
        logged = pl.read_parquet(out).filter(pl.col("role") != "shadow")
        golden = golden_scores(stage.door, logged.filter(pl.col("score").is_not_null()))
        canary = dict(logged.filter(pl.col("role") == "canary").group_by("version").agg(pl.col("entity_key").n_unique()).rows())
        for rollout in stage.figures["rollouts"]:
            rollout["canary_entities"] = canary.get(rollout["version"], 0)
        failed = sum(not _good(answer, golden) for _, answer in asked)
        milliseconds = np.array([answer.seconds * 1e3 for _, answer in asked])
        stage.figures["predictions"] = {
            "count": len(asked),
            "failed": failed,
            "p50_ms": round(float(np.quantile(milliseconds, 0.5)), 2),
            "p99_ms": round(float(np.quantile(milliseconds, 0.99)), 2),
        }
        bar.say(f"{len(asked):,} requests, {failed} failed")


def _good(answer: Answer, golden: dict[tuple[str, int], float]) -> bool:
    if answer.status != 200 or answer.seconds > SLOW_SECONDS:
        return False
    return golden.get((answer.body["prediction_id"], answer.body["version"])) == answer.body["score"]


def parity(stage: Stage) -> None:
    """In a fresh process, from the event log alone, every logged feature is recomputed at its logged position."""
    with stage.step("parity: every logged feature from the event log") as bar:
        found = stage.door.command("parity", "scoring", bad=True)
        names = ("values_compared", "values_different", "values_stale", "max_staleness_s")
        stage.figures["parity"] = {name: found[name] for name in names}
        bar.say(f"{found['values_different']} of {found['values_compared']:,} values differ")


def ledger(stage: Stage) -> None:
    """A checkpoint is kept elsewhere, and the ledger verifies against it."""
    with stage.step("ledger: verified against a checkpoint kept elsewhere") as bar:
        checkpoint = stage.scratch / "checkpoint"
        checkpoint.write_text(_text(stage.door.command("audit", "checkpoint")))
        found = stage.door.command("audit", "verify", "--checkpoint", checkpoint, bad=True)
        stage.figures["ledger"] = {"leaves": found["leaves"], "verified": found["verified"]}
        bar.say(f"{found['leaves']:,} leaves, {'verified' if found['verified'] else 'BAD'}")


def _text(checkpoint: Any) -> str:
    return checkpoint if isinstance(checkpoint, str) else str(checkpoint["checkpoint"])


def why(stage: Stage, asked: list[tuple[int, Answer]], console: Console) -> None:
    """The chain behind one fraud that was asked about, and was reported since."""
    reported = set(stage.reports["tx_id"].to_list())
    frauds = [
        (answer.body["score"], answer.body["prediction_id"]) for tx, answer in asked if tx in reported and answer.status == 200
    ]
    if not frauds:
        return
    score, prediction = max(frauds)
    chain = stage.door.command("why", prediction)
    console.print(f"\n[bold]why {prediction}[/bold] (score {score:.3f})")
    for name in ("version", "dataset_version", "code", "approved_by", "label"):
        console.print(f"  {name:<16} {chain[name]}", highlight=False)
    for feature in chain["features"]:
        age = "" if feature["age_s"] is None else f"  {feature['age_s']:.0f} s old"
        console.print(f"  {feature['name']:<28} {feature['value']}{age}", highlight=False)
    console.print(f"  {'proof':<16} {_short(chain['proof'])}", highlight=False)


def _short(proof: Any) -> str:
    text = str(proof)
    return text if len(text) < 160 else text[:157] + "..."


def status(stage: Stage, console: Console) -> None:
    """What `headrace status` shows at the end."""
    found = stage.door.command("status")
    console.print("\n[bold]headrace status[/bold]")
    console.print_json(data=found)
