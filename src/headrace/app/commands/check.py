"""`headrace check`."""

from __future__ import annotations

import click

from headrace.app.output import show
from headrace.system.checking import FoundProblems, check


@click.command("check")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(file: str, as_json: bool) -> None:
    """Find everything wrong in the system file FILE.py[:NAME], each with its line and how to mend it."""
    checked = check(file)
    if checked.problems:
        raise FoundProblems(checked)
    show(checked, as_json=as_json)
