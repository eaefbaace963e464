"""`headrace run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headrace.app.logs import set_up_log
from headrace.app.run import RunOptions
from headrace.app.run import run as run_system
from headrace.kernel.settings import load_settings


@click.command("run")
@click.argument("file", required=False)
@click.option("--data", metavar="DIR", help="The data folder [./.headrace].")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8420, show_default=True, type=click.IntRange(0, 65535), help="0 is any free one.")
@click.option("--clock", type=click.Choice(["real", "virtual"]), default="real", show_default=True)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM file; with --tls-key for use beyond loopback.")
@click.option("--tls-key", type=click.Path(path_type=Path))
@click.option("--behind-proxy", is_flag=True, help="A proxy in front speaks TLS.")
@click.option(
    "--appliers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that share the streams' partitions."
)
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--json", is_flag=True, hidden=True, help="The ready line is JSON anyway.")
def command(**given: Any) -> None:
    """Run the system that FILE.py[:NAME] declares, or an empty platform, until SIGTERM or Ctrl-C.

    When it is ready, one JSON line on stdout says where.
    """
    given.pop("json")
    settings = load_settings({name: given.pop(name) for name in ("data", "log_format", "log_level")})
    set_up_log(settings.log_format, settings.log_level)
    run_system(settings, RunOptions(**given))
