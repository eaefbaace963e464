"""Whether a column of a file fits a declared field: its rows are made events as by `ingest`, and decoded by the contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from headrace.data.contract import Contract
from headrace.data.encoding import json_events
from headrace.data.files import format_of, read_lines, read_table, read_text_table
from headrace.data.types import Field, Violation
from headrace.kernel.times import LAST_TIME

SAMPLE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a file: `lines` of NDJSON, else `cells`, which are texts (CSV) or typed values (Parquet)."""

    lines: list[bytes]
    cells: pl.DataFrame
    textual: bool

    def refusal(self, field: Field) -> Violation | None:
        """The first value of the field's column that its contract refuses."""
        events = self.lines or json_events((field,), self.cells, textual=self.textual)
        _, refused = Contract((field,), time=None, max_future=0).decode_batch(events, LAST_TIME)
        return refused[0][1] if refused else None


def sample_of(path: Path) -> Sample:
    """NotFound, InvalidInput as `read_table`."""
    kind = format_of(path)
    if kind == "ndjson":
        return Sample(read_lines(path)[:SAMPLE_ROWS], pl.DataFrame(), False)
    cells = read_text_table(path) if kind == "csv" else read_table(path)
    return Sample([], cells.head(SAMPLE_ROWS), kind == "csv")
