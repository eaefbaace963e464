"""`headrace init`."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.app.initialising import Roles, initialise
from headrace.app.output import show


@click.command("init")
@click.argument("name")
@click.option(
    "--from", "source", required=True, metavar="FILE", type=click.Path(path_type=Path), help="NDJSON, CSV or Parquet."
)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), default=Path(), help="Where to write [here].")
@click.option("--id", metavar="COLUMN", help="What identifies an event.")
@click.option("--key", metavar="COLUMN", help="Whom an event is about.")
@click.option("--time", metavar="COLUMN", help="When it happened.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(name: str, source: Path, out: Path, as_json: bool, **roles: str | None) -> None:
    """Infer types, time, id and key of a file of events and write NAME.py, a typed system file that runs as it is.

    With a column of outcomes (0/1 or bool, such as is_fraud) the file declares a model of it and a stream of reports;
    without one, a model of which keys will fall silent. What is written is a draft to read and mend.
    """
    show(initialise(name, source, out, Roles(**roles)), as_json=as_json)
