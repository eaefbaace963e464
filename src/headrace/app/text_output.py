"""Results as text for a person."""

from __future__ import annotations

import re
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

CELL_WIDTH = 60
LIST_WIDTH = 24
LEAST_WIDTH = 120
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")


def print_text(value: Any) -> None:
    """Print a plain value: pairs, then a table for each list of records."""
    console = Console(highlight=False)
    if console.width < LEAST_WIDTH and not console.is_terminal:
        console.width = LEAST_WIDTH
    _print_on(console, value)


def _print_on(console: Console, value: Any) -> None:
    if isinstance(value, dict):
        scalars = {name: item for name, item in value.items() if not _nested(item)}
        if scalars:
            console.print(_pairs(scalars))
        for name, item in value.items():
            if _nested(item):
                console.print(f"\n[bold]{name}[/bold]")
                _print_on(console, item)
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        console.print(_table(value))
    elif isinstance(value, list):
        console.print("\n".join(str(item) for item in value) or "none", markup=False, soft_wrap=True)
    else:
        console.print(_cell(value), markup=False)


def _nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _pairs(values: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row(Text(name, style="dim"), Text(_cell(value, CELL_WIDTH * 4)))
    return table


def _table(rows: list[dict[str, Any]]) -> Table:
    """The columns that fit a line: neither nested, but for lists of names and numbers, nor digests, which `--json` has."""
    names = dict.fromkeys(name for row in rows for name in row)
    shown = [name for name in names if not any(_long(row.get(name)) for row in rows)]
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for name in shown:
        numbers = all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, overflow="fold", justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in shown))
    return table


def _long(value: Any) -> bool:
    return (_nested(value) and not _joinable(value)) or (isinstance(value, str) and _DIGEST.fullmatch(value) is not None)


def _joinable(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | int) for item in value)


def _cell(value: Any, width: int = CELL_WIDTH) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if _joinable(value):
        value, width = ", ".join(map(str, value)), LIST_WIDTH
    text = _MOMENT.sub(r"\1Z", str(value))
    return text if len(text) <= width else text[: width - 1] + "…"
