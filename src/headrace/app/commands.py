"""The commands that are no operations: they start processes or work without a data folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from headrace.kernel.errors import NotFound

COMMANDS: dict[str, click.Command] = {}


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    def add(function: Callable[..., Any]) -> click.Command:
        COMMANDS[name] = click.command(name)(function)
        return COMMANDS[name]

    return add


@_command("run")
@click.argument("file", required=False)
@click.option("--data", metavar="DIR", help="The data folder [./.headrace].")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8420, show_default=True, type=click.IntRange(0, 65535), help="0 is any free one.")
@click.option("--clock", type=click.Choice(["real", "virtual"]), default="real", show_default=True)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM file; with --tls-key for use beyond loopback.")
@click.option("--tls-key", type=click.Path(path_type=Path))
@click.option("--behind-proxy", is_flag=True, help="A proxy in front speaks TLS.")
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--json", is_flag=True, hidden=True, help="The ready line is JSON anyway.")
def run(**given: Any) -> None:
    """Run the system that FILE.py[:NAME] declares, or an empty platform, until SIGTERM or Ctrl-C.

    When it is ready, one JSON line on stdout says where.
    """
    from headrace.app.logs import set_up_log
    from headrace.app.run import RunOptions
    from headrace.app.run import run as run_system
    from headrace.kernel.settings import load_settings

    given.pop("json")
    settings = load_settings({name: given.pop(name) for name in ("data", "log_format", "log_level")})
    set_up_log(settings)
    run_system(settings, RunOptions(**given))


@_command("demo")
@click.option("--payments", type=click.IntRange(1000), default=500_000, show_default=True, help="Payments to generate.")
@click.option("--transactions", type=click.Path(path_type=Path), help="A Parquet or CSV file of payments instead.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="An empty data folder [a temporary one].")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def demo(**given: Any) -> None:
    """Run the fraud story end to end, on our own payments or on yours, and print a table of figures."""
    folder = examples() / "fraud"
    sys.path.insert(0, str(folder))
    importlib.import_module("story").demo(**given)


def examples() -> Path:
    """The examples: of the repository when headrace runs from it, else as they were installed."""
    import headrace

    places = [Path(headrace.__file__).parents[2] / "examples", Path(sys.prefix) / "share" / "headrace" / "examples"]
    for place in places:
        if (place / "fraud" / "story.py").is_file():
            return place
    tried = ", ".join(f"`{place}`" for place in places)
    raise NotFound(f"the examples are not installed; looked in {tried}", hint="pip install headrace, or use a checkout")


@_command("init")
@click.argument("name")
@click.option(
    "--from", "source", required=True, metavar="FILE", type=click.Path(path_type=Path), help="NDJSON, CSV or Parquet."
)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), default=Path(), help="Where to write [here].")
@click.option("--id", metavar="COLUMN", help="What identifies an event.")
@click.option("--key", metavar="COLUMN", help="Whom an event is about.")
@click.option("--time", metavar="COLUMN", help="When it happened.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def init(name: str, source: Path, out: Path, as_json: bool, **roles: str | None) -> None:
    """Infer types, time, id and key of a file of events and write NAME.py, a typed system file that runs as it is.

    With a column of outcomes (0/1 or bool, such as is_fraud) the file declares a model of it and a stream of reports;
    without one, a model of which keys will fall silent. What is written is a draft to read and mend.
    """
    from headrace.app.initialising import Roles, initialise
    from headrace.app.output import show

    show(initialise(name, source, out, Roles(**roles)), as_json=as_json)


@_command("check")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def check(file: str, as_json: bool) -> None:
    """Find everything wrong in the system file FILE.py[:NAME], each with its line and how to mend it."""
    from headrace.app.output import show
    from headrace.system.checking import FoundProblems
    from headrace.system.checking import check as check_file

    checked = check_file(file)
    if checked.problems:
        raise FoundProblems(checked)
    show(checked, as_json=as_json)


@_command("doctor")
@click.argument("file", required=False)
@click.option("--data", metavar="DIR", help="The data folder [./.headrace].")
@click.option("--port", default=8420, show_default=True, type=click.IntRange(1, 65535))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def doctor(file: str | None, data: str | None, port: int, as_json: bool) -> int:
    """Look at the system file, engine URLs, port, disk, versions and data format: what is wrong, and what mends it."""
    from headrace.app.doctor import diagnose, show_diagnosis
    from headrace.kernel.settings import load_settings

    diagnosis = diagnose(load_settings({"data": data}), file, port)
    show_diagnosis(diagnosis, as_json=as_json)
    return 0 if diagnosis.ok else 1


@_command("restore")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="The data folder to make, new or empty [./.headrace].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def restore(source: Path, data: str | None, as_json: bool) -> None:
    """Make a data folder from the backup SOURCE: all of it, verified, or nothing."""
    from headrace.app.output import show
    from headrace.governance.backup import restore as restore_backup
    from headrace.kernel.settings import load_settings

    show(restore_backup(source, load_settings({"data": data}).data), as_json=as_json)
