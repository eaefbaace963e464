"""The catalog on SQLite (WAL) through SQLAlchemy Core."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, create_engine, event, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from headrace.engines.catalog.port import METADATA
from headrace.engines.write_ahead import use_write_ahead_log
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import EngineUnreachable, HeadraceError, IncompatibleFormat, InvalidInput

FORMAT = 1
_OWN = MetaData()
_format = Table("catalog_format", _OWN, Column("format", Integer, primary_key=True))
_leases = Table(
    "leases",
    _OWN,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until", Integer, nullable=False),
)


def catalog_path(url: str) -> Path:
    """The file behind the URL. InvalidInput for an engine that this version has not."""
    if not url.startswith("sqlite:///"):
        scheme = url.partition(":")[0]
        raise InvalidInput(
            f"`catalog` names the engine `{scheme}`, which this version has not; allowed: sqlite:///PATH, or empty",
            hint="unset HEADRACE_CATALOG",
        )
    return Path(url.removeprefix("sqlite:///"))


def _sqlite_settings(engine: Engine) -> None:
    """Transactions are ours (BEGIN is never implicit), writers wait for each other, commits survive power loss."""

    @event.listens_for(engine, "connect")
    def connect(connection, _record):  # type: ignore[no-untyped-def]
        connection.isolation_level = None
        use_write_ahead_log(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")


class SqlCatalog:
    """Creates the tables of METADATA that are missing; refuses a catalog of a newer format."""

    def __init__(self, url: str) -> None:
        catalog_path(url)
        self._engine = create_engine(url, pool_size=8, max_overflow=16)
        self._counting = threading.Lock()
        self._counter: PoolProxiedConnection | None = None
        _sqlite_settings(self._engine)
        try:
            self._prepare(url)
        except HeadraceError:
            self.close()
            raise

    def _prepare(self, url: str) -> None:
        try:
            with self.transaction() as connection:
                _OWN.create_all(connection)
                METADATA.create_all(connection)
                found = connection.execute(select(_format.c.format)).scalar()
                if found is None:
                    connection.execute(_format.insert().values(format=FORMAT))
        except DatabaseError as error:
            raise EngineUnreachable(
                f"the catalog `{url}` cannot be opened: {error.orig}",
                hint="check HEADRACE_CATALOG, or restore a backup: `headrace restore`",
            ) from None
        if found is not None and found > FORMAT:
            raise IncompatibleFormat.newer("the catalog", found, FORMAT, otherwise="restore an older backup")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            self._begin(connection, "BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            self._begin(connection, "BEGIN")
            yield connection

    @staticmethod
    def _begin(connection: Connection, statement: str) -> None:
        try:
            connection.exec_driver_sql(statement)
        except OperationalError as error:
            raise EngineUnreachable(f"the catalog is busy: {error.orig}", hint="try again; another process writes") from None

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        now = MACHINE.now()
        until = now + round(seconds * 1e6)
        with self.transaction() as connection:
            row = connection.execute(select(_leases).where(_leases.c.name == name)).first()
            if row is None:
                connection.execute(_leases.insert().values(name=name, holder=holder, until=until))
                return True
            if row.holder != holder and row.until > now:
                return False
            connection.execute(_leases.update().where(_leases.c.name == name).values(holder=holder, until=until))
            return True

    def changes(self) -> int:
        # SQLite counts for a connection what the others commit, so this one is for nothing else.
        with self._counting:
            if self._counter is None:
                self._counter = self._engine.raw_connection()
            cursor = self._counter.cursor()
            cursor.execute("PRAGMA data_version")
            ((found,),) = cursor.fetchall()
            cursor.close()
        return int(found)

    def close(self) -> None:
        with self._counting:
            if self._counter is not None:
                self._counter.close()
                self._counter = None
        self._engine.dispose()
