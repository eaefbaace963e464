"""Committed consumer offsets and consumer groups in one SQLite database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.engines.events.assignment import assign
from headrace.engines.write_ahead import use_write_ahead_log
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import EngineUnreachable, Fenced, IncompatibleFormat
from headrace.kernel.ids import new_id

FORMAT = 2
"""2 has the tables of groups; a database of format 1 gets them when it is opened."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS offsets (consumer TEXT, topic TEXT, part INTEGER, next INTEGER NOT NULL,"
    " PRIMARY KEY (consumer, topic, part)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS members (consumer TEXT, topic TEXT, name TEXT, incarnation TEXT NOT NULL,"
    " until INTEGER NOT NULL, PRIMARY KEY (consumer, topic, name)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS assignments (consumer TEXT, topic TEXT, part INTEGER, owner TEXT,"
    " generation INTEGER NOT NULL, PRIMARY KEY (consumer, topic, part)) WITHOUT ROWID",
)
_OF_GROUP = "WHERE consumer = ? AND topic = ?"


class CommittedOffsets:
    """`commit` is durable on return; usable from several threads and processes. Without a path it is in memory."""

    def __init__(self, path: Path | None) -> None:
        self._mutex = threading.Lock()
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        try:
            use_write_ahead_log(self._connection)
        except sqlite3.DatabaseError as error:
            raise EngineUnreachable(
                f"`{path}` cannot be opened: {error}", hint="restore a backup: `headrace restore`"
            ) from None
        self._connection.execute("PRAGMA synchronous=FULL")
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found > FORMAT:
            raise IncompatibleFormat.newer(f"`{path}`", found, FORMAT)
        for statement in _TABLES:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version={FORMAT}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Exclusive among threads and processes, whole or not at all."""
        with self._mutex:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise EngineUnreachable(f"the offsets are busy: {error}", hint="try again; another process writes") from None
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", (group, topic, partition, offset))

    def committed(self, group: str, topic: str, partition: int) -> int:
        with self._mutex:
            row = self._connection.execute(
                "SELECT next FROM offsets WHERE consumer = ? AND topic = ? AND part = ?", (group, topic, partition)
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        with self._mutex:
            self._connection.close()


class GroupMember:
    """See the port. A member is known by its name and its incarnation: each joining is a new one."""

    def __init__(self, offsets: CommittedOffsets, group: str, topic: str, partitions: int, name: str, lease: float) -> None:
        self._offsets = offsets
        self._group = (group, topic)
        self._partitions = partitions
        self._name = name
        self._lease = round(lease * 1e6)
        self._incarnation = new_id()
        self._held: dict[int, int] = {}
        with offsets.transaction() as connection:
            self._renew(connection)

    def assigned(self) -> dict[int, int]:
        with self._offsets.transaction() as connection:
            self._check(connection)
            self._renew(connection)
            self._held = self._rebalance(connection)
        return dict(self._held)

    def renew(self) -> None:
        with self._offsets.transaction() as connection:
            self._check(connection)
            self._renew(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(f"SELECT incarnation FROM members {_OF_GROUP} AND name = ?", (*self._group, self._name))
        found = row.fetchone()
        if found is not None and found[0] != self._incarnation:
            raise self._fenced(f"another process has joined as `{self._name}`")

    def _renew(self, connection: sqlite3.Connection) -> None:
        now = MACHINE.now()
        connection.execute(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?)",
            (*self._group, self._name, self._incarnation, now + self._lease),
        )
        connection.execute(f"DELETE FROM members {_OF_GROUP} AND until < ?", (*self._group, now))

    def _rebalance(self, connection: sqlite3.Connection) -> dict[int, int]:
        """Give back what another member is to have, take what is free and ours. A partition goes from a living member to
        another only through its own call: it does not work on the partition at that moment."""
        members = dict(connection.execute(f"SELECT incarnation, name FROM members {_OF_GROUP}", self._group).fetchall())
        rows = connection.execute(f"SELECT part, owner, generation FROM assignments {_OF_GROUP}", self._group).fetchall()
        owners = {part: members[owner] for part, owner, _ in rows if owner in members}
        generations = {part: generation for part, _, generation in rows}
        target = assign(self._partitions, owners, list(members.values()))
        held = {}
        for part in range(self._partitions):
            ours, owner, generation = target[part] == self._name, owners.get(part), generations.get(part, 0)
            if owner == self._name and ours:
                held[part] = generation
            elif owner == self._name:
                self._store(connection, part, None, generation)
            elif owner is None and ours:
                held[part] = generation + 1
                self._store(connection, part, self._incarnation, generation + 1)
        return held

    def _store(self, connection: sqlite3.Connection, part: int, owner: str | None, generation: int) -> None:
        values = (*self._group, part, owner, generation)
        connection.execute("INSERT OR REPLACE INTO assignments VALUES (?, ?, ?, ?, ?)", values)

    def commit(self, partition: int, offset: int) -> None:
        with self._offsets.transaction() as connection:
            row = connection.execute(
                f"SELECT owner, generation FROM assignments {_OF_GROUP} AND part = ?", (*self._group, partition)
            ).fetchone()
            if row is None or row != (self._incarnation, self._held.get(partition)):
                raise self._fenced(f"partition {partition} is not, or no longer, assigned to `{self._name}`")
            connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", (*self._group, partition, offset))

    def leave(self) -> None:
        self._held = {}
        with self._offsets.transaction() as connection:
            connection.execute(f"DELETE FROM members {_OF_GROUP} AND incarnation = ?", (*self._group, self._incarnation))

    def _fenced(self, why: str) -> Fenced:
        group, topic = self._group
        return Fenced(f"group `{group}` of topic `{topic}`: {why}", hint="ask for the assigned partitions and read on")
