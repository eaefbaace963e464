"""The figures at the end: a table for people, JSON for checks."""

from __future__ import annotations

from typing import Any

from published import FIGURES, RESULTS
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

KEYS = (
    "payments", "quarantined", "redelivered", "backfill", "published", "champion", "predictions", "parity", "drift",
    "retrained", "rollouts", "ledger", "seconds", "peak_rss_mb",
)  # fmt: skip


def report(figures: dict[str, Any]) -> dict[str, Any]:
    """The report's keys in their order, and nothing else."""
    return {key: figures.get(key) for key in KEYS}


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the models beside the published table, the time of each step, then every figure of the report."""
    table = Table("model", *FIGURES, title="the test week", box=SIMPLE)
    for row in figures["models"]:
        of_paper = RESULTS.get(row["model"], ()) if figures.get("published") else ()
        cells = [f"{row[name]:.3f}" for name in FIGURES]
        if of_paper:
            cells = [f"{cell} ({paper:.3f})" for cell, paper in zip(cells, of_paper, strict=True)]
        table.add_row(row["model"], *cells)
    if figures.get("published"):
        table.caption = "in brackets: as published; the published boosting is XGBoost with its defaults"
    console.print(table)
    table = Table("step", "seconds", title="where the time went", box=SIMPLE)
    for title, seconds in figures["steps"].items():
        table.add_row(title, f"{seconds:.1f}")
    console.print(table)
    table = Table(title="figures", box=SIMPLE, show_header=False)
    for key, value in report(figures).items():
        for name, figure in _flat(key, value):
            table.add_row(name, figure)
    console.print(table)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """(dotted name, text) of every figure in the value."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() if key != "models" for pair in _flat(f"{name}.{key}", inner)]
    if isinstance(value, list):
        return [pair for index, inner in enumerate(value) for pair in _flat(f"{name}[{index}]", inner)]
    if isinstance(value, bool) or value is None:
        return [(name, {True: "yes", False: "no", None: "-"}[value])]
    return [(name, f"{value:,}" if isinstance(value, int) else str(value))]
