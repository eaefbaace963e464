"""Committed consumer offsets in one SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from headrace.engines.write_ahead import use_write_ahead_log
from headrace.kernel.errors import EngineUnreachable, IncompatibleFormat

FORMAT = 1


class CommittedOffsets:
    """`commit` is durable on return; usable from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._mutex = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            use_write_ahead_log(self._connection)
        except sqlite3.DatabaseError as error:
            raise EngineUnreachable(
                f"`{path}` cannot be opened: {error}", hint="restore a backup: `headrace restore`"
            ) from None
        self._connection.execute("PRAGMA synchronous=FULL")
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise IncompatibleFormat(
                f"`{path}` has format {found}, this headrace reads up to {FORMAT}", hint="install a newer headrace"
            )
        self._connection.execute(f"PRAGMA user_version={FORMAT}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS offsets (consumer TEXT, topic TEXT, part INTEGER, next INTEGER NOT NULL,"
            " PRIMARY KEY (consumer, topic, part)) WITHOUT ROWID"
        )

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        with self._mutex:
            self._connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", (group, topic, partition, offset))

    def committed(self, group: str, topic: str, partition: int) -> int:
        with self._mutex:
            row = self._connection.execute(
                "SELECT next FROM offsets WHERE consumer = ? AND topic = ? AND part = ?", (group, topic, partition)
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        with self._mutex:
            self._connection.close()
