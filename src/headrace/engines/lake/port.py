"""The lake port: Delta tables of Polars frames, written exactly once by (application, version)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl


class Lake(Protocol):
    """Table names are such as `fraud/streams/transaction`. Every engine passes `engines/conformance/lake.py`."""

    def append(self, table: str, frame: pl.DataFrame, *, application: str, version: int, after: int | None = None) -> int:
        """Commit `frame` unless (application, version' >= version) is already committed; return the table version.
        New columns are added, null in older rows; absent ones are null. Writers of different applications may append at
        once. `after`: the version of the application that this one follows (-1: none); Fenced when another is committed."""
        ...

    def overwrite(self, table: str, frame: pl.DataFrame) -> int:
        """Replace the content as a new table version and return it."""
        ...

    def read(self, table: str, *, version: int | None = None, columns: list[str] | None = None) -> pl.DataFrame:
        """The table (of that version). NotFound lists known tables."""
        ...

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame: ...

    def committed(self, table: str, application: str) -> int:
        """The last committed version of the application, -1 for none."""
        ...

    def version(self, table: str) -> int:
        """The newest table version, -1 when there is no table."""
        ...

    def compact(self, table: str) -> None:
        """Merge small files; old versions stay readable until `vacuum`. Killed anywhere in it, the table is as before."""
        ...

    def uncompacted(self, table: str, *, limit: int) -> int:
        """Commits since the last compaction, counted up to `limit`; 0 when there is no table."""
        ...

    def vacuum(self, table: str, *, hours: int, keep: Sequence[int] = ()) -> list[str]:
        """Delete the files that neither the newest version nor one of `keep` has and that were given up, or left by a killed
        writer, at least `hours` ago; return their names. Other old versions are not readable any more. With 0 hours nobody
        may write or read at the same time."""
        ...
