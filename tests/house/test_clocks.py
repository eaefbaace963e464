"""Nothing but `kernel/clocks.py` reads the time, nothing but `kernel/settings.py` the environment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "headrace"
CLOCKS, SETTINGS = "kernel/clocks.py", "kernel/settings.py"
TIME_MODULES = {"time", "timeit", "_time"}
NOW_METHODS = {"now", "utcnow", "today"}
NOW_OWNERS = {"datetime", "date", "Timestamp", "dt", "pd", "pl"}
TICKS = {"perf_counter", "perf_counter_ns", "monotonic_ns", "time_ns", "process_time", "clock_gettime", "uuid1", "uuid7"}
SQL_NOW = ("CURRENT_TIMESTAMP", "func.now", "strftime('%s'", "datetime('now')")


def time_reads(source: str) -> list[str]:
    """What in the source reads a clock, as `line: what`."""
    found = [f"{n}: {word}" for n, line in enumerate(source.splitlines(), 1) for word in SQL_NOW if word in line]
    for node in ast.walk(ast.parse(source)):
        what = ""
        if isinstance(node, ast.Import):
            what = ", ".join(a.name for a in node.names if a.name in TIME_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in TIME_MODULES:
            what = node.module or ""
        elif isinstance(node, ast.Attribute):
            owner = node.value
            named = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            loop = node.attr == "time" and named in ("loop", "_loop")
            if node.attr in TICKS or loop or (node.attr in NOW_METHODS and named in NOW_OWNERS):
                what = f"{named}.{node.attr}"
        if what:
            found.append(f"{getattr(node, 'lineno', 0)}: {what}")
    return found


def environment_reads(source: str) -> list[str]:
    """What in the source reads the environment, as `line: what`."""
    names = ("environ", "environb", "getenv", "putenv")
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in names:
            found.append(f"{node.lineno}: os.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found += [f"{node.lineno}: os.{a.name}" for a in node.names if a.name in names]
    return found


def offenders(reads: object, home: str) -> dict[str, list[str]]:
    assert callable(reads)
    found = {str(p.relative_to(PACKAGE)): reads(p.read_text()) for p in sorted(PACKAGE.rglob("*.py"))}
    return {name: lines for name, lines in found.items() if lines and name != home}


def test_only_the_clocks_read_the_time() -> None:
    assert not offenders(time_reads, CLOCKS)


def test_only_the_settings_read_the_environment() -> None:
    assert not offenders(environment_reads, SETTINGS)


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from time import sleep",
        "datetime.now(UTC)",
        "datetime.datetime.utcnow()",
        "date.today()",
        "loop.time()",
        "asyncio.get_running_loop().x; time.perf_counter()",
        "select(func.now())",
        "uuid.uuid1()",
    ],
)
def test_the_walk_sees_a_read_of_the_time(line: str) -> None:
    assert time_reads(line)


@pytest.mark.parametrize("line", ["os.environ['A']", "os.getenv('A')", "from os import environ"])
def test_the_walk_sees_a_read_of_the_environment(line: str) -> None:
    assert environment_reads(line)


@pytest.mark.parametrize(
    "line", ["ctx.clock.now()", "MACHINE.now()", "MACHINE.monotonic()", "event.time", "from headrace.kernel import times"]
)
def test_asking_a_port_is_allowed(line: str) -> None:
    assert not time_reads(line)
    assert not environment_reads(line)
