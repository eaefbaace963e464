"""The first words of all commands, with the module that makes each: help needs no room, and a command only its own.

`tests/app/test_cli.py` holds it equal to the operation table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Word:
    """`module` is imported when the word is used: an `operations.py`, whose commands begin with the word, or for
    `special` a module with the click `command` itself."""

    module: str
    summary: str
    special: bool = False
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """The commands of the word that another module makes, which is imported for them alone."""


WORDS: dict[str, Word] = {
    "run": Word("headrace.app.commands.run", "Run a system, or an empty platform, until Ctrl-C.", special=True),
    "demo": Word("headrace.app.commands.demo", "Run the fraud story end to end and print its figures.", special=True),
    "init": Word("headrace.app.commands.init", "Write a typed system file inferred from a data file.", special=True),
    "check": Word("headrace.app.commands.check", "Find everything wrong in a system file.", special=True),
    "doctor": Word(
        "headrace.app.commands.doctor", "Find what is wrong on this machine, each with the command that mends it.", special=True
    ),
    "restore": Word("headrace.app.commands.restore", "Restore a backup into a new data folder.", special=True),
    "status": Word("headrace.app.status", "Show streams, services, rollouts, alarms, runs and versions."),
    "ingest": Word("headrace.data.operations", "Append a file or folder of events to a stream."),
    "streams": Word("headrace.data.operations", "Streams: position, lag, counts."),
    "sources": Word("headrace.data.operations", "Batch sources of streams: list, read."),
    "contracts": Word("headrace.data.operations", "How the contracts of streams held: show."),
    "quarantine": Word("headrace.data.operations", "Refused events: list, fix, replay."),
    "datasets": Word("headrace.data.operations", "Dataset versions: list, show, diff, vacuum."),
    "features": Word(
        "headrace.system.operations",
        "Features: list, show, read, export; from files: backfill, join.",
        elsewhere={"backfill": "headrace.system.file_operations", "join": "headrace.features.operations"},
    ),
    "train": Word("headrace.training.operations", "Train a declared model as a tracked run."),
    "pipelines": Word("headrace.pipelines.operations", "Durable pipelines and the state of their steps."),
    "runs": Word("headrace.training.operations", "Runs: list, show."),
    "registry": Word("headrace.registry.operations", "Model versions: register, list, approve."),
    "services": Word("headrace.serving.operations", "Prediction services and what they serve."),
    "predictions": Word("headrace.serving.operations", "The prediction log: export."),
    "parity": Word("headrace.serving.operations", "Recompute every logged feature from the event log."),
    "rollout": Word("headrace.release.operations", "Rollouts: start, status, hold, promote, rollback."),
    "alarms": Word("headrace.monitoring.operations", "Alarms: list."),
    "drift": Word("headrace.monitoring.operations", "Drift of a service, from its counters."),
    "retrainings": Word("headrace.system.operations", "Retrainings that the policy began."),
    "reload": Word("headrace.system.operations", "Run what the system's file declares now, without a restart."),
    "settled": Word("headrace.system.operations", "Wait until everything is applied and decided."),
    "keys": Word("headrace.governance.operations", "API keys: create, list, revoke."),
    "audit": Word("headrace.governance.operations", "The ledger: checkpoint, prove, verify."),
    "why": Word("headrace.governance.operations", "Explain a prediction, with its proof."),
    "backup": Word("headrace.governance.operations", "Back the data folder up while the system runs."),
}
