"""Apply ten seeded mutations, each to its own copy of the source, and show that a test fails for each.

    python scripts/mutations.py [NAME ...]

Exit code 1 when a mutation survives, or its place in the source is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SECONDS = 180
SURVIVED = "SURVIVED: every test passed"
WITHOUT_SHRINKING = """
from hypothesis import Phase, settings

settings.register_profile("mutations", phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutations")
"""


@dataclass(frozen=True)
class Mutation:
    """`right` stands exactly once in `file` and becomes `wrong`; one of `tests` must fail then."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "window edge: t - w is included",
        "features/kernel.py",
        "starts = [timeline.after(asked.key, view.begin(upper - width)) for _, width in view.over]",
        "starts = [timeline.after(asked.key, view.begin(upper - width - 1)) for _, width in view.over]",
        ("tests/features/test_backfill_windows.py::test_backfill_over_events_equals_the_oracle",),
    ),
    Mutation(
        "tie rule: the first of two payments in a second sees the second",
        "features/kernel.py",
        "beyond = np.flatnonzero(tied & (events.offset[last] > asked.own))",
        "beyond = np.flatnonzero(tied & (events.offset[last] < 0))",
        ("tests/features/test_backfill_windows.py::test_any_asking_time_and_position_equal_the_oracle",),
    ),
    Mutation(
        "join tie: the oldest of equal times wins",
        "features/newest.py",
        "index, mine = _order(times.codes, created)",
        "index, mine = _order(times.codes, None if created is None else -created)",
        ("tests/features/test_point_in_time.py::test_ties_go_to_the_newest_created_then_the_last_row",),
    ),
    Mutation(
        "router inequality",
        "serving/router.py",
        "return bucket(salt, entity) < weight",
        "return bucket(salt, entity) > weight",
        ("tests/serving/test_router.py",),
    ),
    Mutation(
        "guard threshold: 1 / alpha for each of the guards",
        "release/guards.py",
        "threshold = GUARDS / policy.alpha",
        "threshold = 1 / policy.alpha",
        ("tests/release/test_rollouts.py", "tests/release/test_guard_simulation.py"),
    ),
    Mutation(
        "permission check: every role may what an admin may",
        "kernel/identity.py",
        "if permission not in GRANTS[principal.role]:",
        "if permission not in GRANTS[Role.ADMIN]:",
        ("tests/kernel/test_identity_log_and_errors.py",),
    ),
    Mutation(
        "ledger hash: a leaf is hashed like a node",
        "ledger/merkle.py",
        r'return hashlib.sha256(b"\0" + entry).digest()',
        r'return hashlib.sha256(b"\1" + entry).digest()',
        ("tests/ledger/test_merkle.py",),
    ),
    Mutation(
        "applied-offset guard: a batch is applied again",
        "features/materialise.py",
        'fresh = events[words["offset"]] > held.guards[code, 0]',
        'fresh = events[words["offset"]] > -1',
        (
            "tests/features/test_online_windows.py::test_an_interrupted_batch_is_applied_once",
            "tests/features/test_online_windows.py::test_without_a_transaction_each_state_still_applies_an_event_once",
        ),
    ),
    Mutation(
        "label maturity: positives are trained on early",
        "features/labels.py",
        'found if label.kind == "label" else ~found, dtype=pl.Int8), over',
        'found if label.kind == "label" else ~found, dtype=pl.Int8), over | found',
        ("tests/features/test_labels.py",),
    ),
    Mutation(
        "parity tolerance: nearly equal counts as equal",
        "serving/parity.py",
        "(left.view(np.int64) == right.view(np.int64))",
        "np.isclose(left, right)",
        ("tests/serving/test_parity.py",),
    ),
)


def unchanged() -> Mutation:
    """No mutation: all the tests, which must pass."""
    return Mutation("none", "", "", "", tuple(dict.fromkeys(test for mutation in MUTATIONS for test in mutation.tests)))


def source(mutation: Mutation) -> str:
    """The mutated text of the file. ValueError when its place is not there exactly once."""
    if not mutation.file:
        return ""
    text = (ROOT / "src" / "headrace" / mutation.file).read_text()
    if text.count(mutation.right) != 1:
        raise ValueError(f"{mutation.file} holds {text.count(mutation.right)} times: {mutation.right}")
    return text.replace(mutation.right, mutation.wrong)


def failures(mutation: Mutation, text: str, folder: Path) -> int:
    """Run the tests against a copy of the source with the mutated file; the exit code of pytest."""
    for name in ("src", "tests", "examples", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "AGENTS.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder / name)
    if mutation.file:
        (folder / "src" / "headrace" / mutation.file).write_text(text)
    with (folder / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(WITHOUT_SHRINKING)
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", *mutation.tests]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=SECONDS)
    return answer.returncode


def main(names: list[str]) -> int:
    """0 when every mutation (whose name begins with one of `names`) made a test fail, and none did not."""
    table = Table("mutation", "file", "verdict", "seconds")
    survived = 0
    for mutation in (unchanged(), *MUTATIONS):
        if names and not any(mutation.name.startswith(name) for name in names):
            continue
        began = time.perf_counter()
        wanted = "a test failed" if mutation.file else "every test passed"
        with tempfile.TemporaryDirectory(prefix="headrace-mutation-") as folder:
            try:
                code = failures(mutation, source(mutation), Path(folder))
                verdict = {0: SURVIVED if mutation.file else "every test passed", 1: "a test failed"}.get(
                    code, f"pytest ended: {code}"
                )
            except ValueError as error:
                verdict = str(error)
        survived += verdict != wanted
        table.add_row(mutation.name, mutation.file, verdict, f"{time.perf_counter() - began:.1f}")
    Console().print(table)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
