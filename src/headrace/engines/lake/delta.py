"""The lake as Delta tables through deltalake and Polars: `ROOT/{table}`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import PolarsError

from headrace.engines.file_locks import locked
from headrace.kernel.errors import CheckFailed, EngineUnreachable, Fenced, InvalidInput, NotFound

ATTEMPTS = 20
KEEP_LOGS = PostCommitHookProperties(cleanup_expired_logs=False)
"""Delta's default drops the log of versions older than 30 days at a checkpoint, and with it every pin among them."""


def _files(opened: DeltaTable) -> list[tuple[str, int]]:
    """The path in the table's folder and the bytes of each file."""
    files = pl.DataFrame(opened.get_add_actions(flatten=True)).select("path", "size_bytes")
    return [(unquote(name), size) for name, size in files.iter_rows()]


class DeltaLake:
    """Any number of readers and of appending processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, table: str) -> str:
        if not table or any(part in ("", ".", "..") or part.startswith("_") for part in table.split("/")):
            raise InvalidInput(f"`{table}` cannot name a table", hint="use names such as `fraud/streams/transaction`")
        return str(self._root / table)

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        newest = self.version(table)
        if newest < 0:
            known = (str(log.parent.relative_to(self._root)) for log in self._root.rglob("_delta_log"))
            raise NotFound.of("table", table, known)
        if version is not None and not 0 <= version <= newest:
            raise NotFound(f"table `{table}` has no version {version}; it has 0 to {newest}", hint="use one of them")
        opened = DeltaTable(self._path(table), version=version)
        self._check_files(table, opened)
        return opened

    def _check_files(self, table: str, opened: DeltaTable) -> None:
        """CheckFailed for a lost or cut file: Polars 2.1 panics on one that is shorter than the table says."""
        for name, size in _files(opened):
            path = self._root / table / name
            found = path.stat().st_size if path.exists() else None
            if found != size:
                raise CheckFailed(
                    f"`{path}` has {'no' if found is None else found} bytes, table `{table}` says {size}",
                    hint="restore the data folder from a backup: `headrace restore`",
                )

    def append(self, table: str, frame: pl.DataFrame, *, application: str, version: int, after: int | None = None) -> int:
        """One at a time in a table: deltalake 1.6 lets two commits of one application pass that both saw the same before."""
        folder = Path(self._path(table))
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "_append.lock", wait=True):
            return self._append(table, frame, application, version, after)

    def _append(self, table: str, frame: pl.DataFrame, application: str, version: int, after: int | None) -> int:
        path = self._path(table)
        once = CommitProperties(app_transactions=[Transaction(application, version)])
        for attempt in range(ATTEMPTS):
            stored, opened = self._stored(path, application)
            if after is not None and stored != after:
                raise Fenced(
                    f"`{application}` has committed up to {stored} of table `{table}`, not {after}",
                    hint="another process has taken over; it goes on there",
                )
            if stored >= version:
                return self.version(table)
            try:
                if opened is None:
                    write_deltalake(path, frame, mode="error", commit_properties=once)
                else:
                    write_deltalake(opened, frame, mode="append", schema_mode="merge", commit_properties=once)
                return self.version(table)
            except DeltaError as error:  # another has created the table, changed its columns, or written as this one
                if opened is not None and not isinstance(error, CommitFailedError):
                    raise
                if attempt == ATTEMPTS - 1:
                    raise EngineUnreachable(f"table `{table}`: {error}", hint="try again; others are writing") from error
        raise AssertionError

    @staticmethod
    def _stored(path: str, application: str) -> tuple[int, DeltaTable | None]:
        """The committed version, -1 for none, as of the opened table, None when there is no table."""
        try:
            opened = DeltaTable(path)
        except TableNotFoundError:
            return -1, None
        stored = opened.transaction_version(application)
        return -1 if stored is None else stored, opened

    def overwrite(self, table: str, frame: pl.DataFrame) -> int:
        path = self._path(table)
        Path(path).mkdir(parents=True, exist_ok=True)
        write_deltalake(path, frame, mode="overwrite", schema_mode="overwrite", post_commithook_properties=KEEP_LOGS)
        return self.version(table)

    def read(self, table: str, *, version: int | None = None, columns: list[str] | None = None) -> pl.DataFrame:
        lazy = self.scan(table, version=version)
        if columns is not None:
            known = lazy.collect_schema().names()
            for column in columns:
                if column not in known:
                    raise NotFound.of("column", column, known)
            lazy = lazy.select(columns)
        try:
            return lazy.collect()
        except (PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckFailed(f"table `{table}` is damaged: {reason}", hint="`headrace restore` from a backup") from error

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        opened = self._open(table, version)
        lazy = pl.scan_delta(opened)
        if quote(str(self._root)) == str(self._root):
            return lazy
        files = [self._root / table / name for name, _ in _files(opened)]
        return pl.scan_parquet(files, schema=lazy.collect_schema(), missing_columns="insert", glob=False) if files else lazy

    def committed(self, table: str, application: str) -> int:
        return self._stored(self._path(table), application)[0]

    def version(self, table: str) -> int:
        try:
            return DeltaTable(self._path(table)).version()
        except TableNotFoundError:
            return -1

    def compact(self, table: str) -> None:
        """Nothing while another process does: two at once double the rows (deltalake 1.6)."""
        self._open(table)
        with locked(self._root / table / "_delta_log" / "_compaction.lock", wait=False) as alone:
            if alone:
                self._open(table).optimize.compact()

    def uncompacted(self, table: str, *, limit: int) -> int:
        try:
            done = [commit["operation"] for commit in DeltaTable(self._path(table)).history(limit)]
        except TableNotFoundError:
            return 0
        return done.index("OPTIMIZE") if "OPTIMIZE" in done else len(done)

    def vacuum(self, table: str, *, hours: int, keep: Sequence[int] = ()) -> list[str]:
        """Without a commit when there is nothing to delete: deltalake 1.6 names those it has deleted before again."""
        opened, folder = self._open(table), self._root / table
        delete = partial(
            opened.vacuum,
            hours,
            enforce_retention_duration=False,
            full=True,
            keep_versions=list(keep) or None,
            post_commithook_properties=KEEP_LOGS,
        )
        found = [folder / name for name in delete(dry_run=True)]
        found = [path for path in found if path.exists()]
        if found:
            delete(dry_run=False)
        return [path.name for path in found]
