"""SQLite's write-ahead log, switched on while other processes do the same."""

from __future__ import annotations

import sqlite3

from headrace.kernel.clocks import MACHINE

BUSY_SECONDS = 20.0


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let writers wait for each other and switch a new database to WAL. SQLite does not wait by itself while another
    process switches it."""
    connection.execute(f"PRAGMA busy_timeout={round(BUSY_SECONDS * 1000)}")
    deadline = MACHINE.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if MACHINE.monotonic() > deadline:
                raise
            MACHINE.sleep(0.01)
