"""`headrace demo`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

import headrace
from headrace.app.stopping import stopped_by_sigterm
from headrace.kernel.errors import Interrupted, NotFound

FEWEST_PAYMENTS = 20_000
"""Fewer seldom have a fraud in the test week; the story checks that those it has are enough."""
PAYMENTS_HELP = "Payments to generate; the last rollout needs about 150,000."
TRANSACTIONS_HELP = "A .parquet or .csv file instead: tx_id, at, customer_id, terminal_id, amount, is_fraud."


def examples() -> Path:
    """The examples: of the repository when headrace runs from it, else as they were installed."""
    places = [Path(headrace.__file__).parents[2] / "examples", Path(sys.prefix) / "share" / "headrace" / "examples"]
    for place in places:
        if (place / "fraud" / "story.py").is_file():
            return place
    tried = ", ".join(f"`{place}`" for place in places)
    raise NotFound(f"the examples are not installed; looked in {tried}", hint="pip install headrace, or use a checkout")


@click.command("demo")
@click.option("--payments", type=click.IntRange(FEWEST_PAYMENTS), default=500_000, show_default=True, help=PAYMENTS_HELP)
@click.option("--transactions", type=click.Path(path_type=Path), help=TRANSACTIONS_HELP)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="A new or empty folder [a temporary one].")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(**given: Any) -> None:
    """Run the fraud story end to end, on our own payments or on yours, and print a table of figures."""
    sys.path.insert(0, str(examples() / "fraud"))
    try:
        with stopped_by_sigterm():
            importlib.import_module("story").demo(**given)
    except KeyboardInterrupt:
        raise Interrupted("the demo was stopped", hint="give the same command again: it begins anew") from None
