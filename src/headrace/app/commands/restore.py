"""`headrace restore`."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.app.output import show
from headrace.governance.backup import restore
from headrace.kernel.settings import load_settings


@click.command("restore")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="The data folder to make, new or empty [./.headrace].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(source: Path, data: str | None, as_json: bool) -> None:
    """Make a data folder from the backup SOURCE: all of it, verified, or nothing."""
    show(restore(source, load_settings({"data": data}).data), as_json=as_json)
