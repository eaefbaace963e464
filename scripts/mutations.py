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
SECONDS = 300


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
        "starts = [timeline.after(asked.key, upper - width) for _, width in view.over]",
        "starts = [timeline.after(asked.key, upper - width - 1) for _, width in view.over]",
        ("tests/features/test_backfill_windows.py",),
    ),
    Mutation(
        "tie rule: the first of two payments in a second sees the second",
        "features/kernel.py",
        "beyond = np.flatnonzero(tied & (events.offset[last] > asked.own))",
        "beyond = np.flatnonzero(tied & (events.offset[last] < 0))",
        ("tests/features/test_online_windows.py", "tests/features/test_backfill_windows.py"),
    ),
    Mutation(
        "join tie: the oldest of equal times wins",
        "features/point_in_time.py",
        "",
        "",
        ("tests/features/test_point_in_time.py",),
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
        ("tests/release",),
    ),
    Mutation(
        "permission check: granted is denied, denied is granted",
        "kernel/identity.py",
        "if permission not in GRANTS[principal.role]:",
        "if permission in GRANTS[principal.role] and principal.role is not Role.ADMIN:",
        ("tests/kernel", "tests/governance/test_matrix.py"),
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
        'frame = frame.filter(pl.col("_offset") > applied.stream)',
        'frame = frame.filter(pl.col("_offset") >= 0)',
        ("tests/features",),
    ),
    Mutation(
        "label maturity: positives are trained on early",
        "features/labels.py",
        "return value.astype(np.int8), at + label.within <= known_at",
        "return value.astype(np.int8), (at + label.within <= known_at) | value",
        ("tests/features",),
    ),
    Mutation(
        "parity tolerance: nearly equal counts as equal",
        "serving/parity.py",
        "(left.view(np.int64) == right.view(np.int64))",
        "np.isclose(left, right)",
        ("tests/serving",),
    ),
)


def source(mutation: Mutation) -> str:
    """The mutated text of the file. ValueError when its place is not there exactly once."""
    text = (ROOT / "src" / "headrace" / mutation.file).read_text()
    if not mutation.right or text.count(mutation.right) != 1:
        raise ValueError(f"{mutation.file} holds {text.count(mutation.right)} times: {mutation.right}")
    return text.replace(mutation.right, mutation.wrong)


def failures(mutation: Mutation, text: str, folder: Path) -> int:
    """Run the tests against a copy of the source with the mutated file; the exit code of pytest."""
    for name in ("src", "tests", "examples", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "AGENTS.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src" / "headrace" / mutation.file).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", *mutation.tests]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=SECONDS)
    return answer.returncode


def main(names: list[str]) -> int:
    """0 when every mutation (whose name begins with one of `names`) made a test fail."""
    table = Table("mutation", "file", "verdict", "seconds")
    survived = 0
    for mutation in MUTATIONS:
        if names and not any(mutation.name.startswith(name) for name in names):
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="headrace-mutation-") as folder:
            try:
                code = failures(mutation, source(mutation), Path(folder))
                verdict = {0: "SURVIVED", 1: "a test failed"}.get(code, f"pytest ended with {code}")
            except ValueError as error:
                verdict = str(error)
        survived += verdict != "a test failed"
        table.add_row(mutation.name, mutation.file, verdict, f"{time.perf_counter() - began:.1f}")
    Console().print(table)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
