from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.engines.catalog.sql import SqlCatalog
from headrace.engines.conformance.catalog import CatalogConformance, value_of
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import EngineUnreachable, IncompatibleFormat, InvalidInput
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs

WRITER = """
import sys, threading
from headrace.engines.catalog.sql import SqlCatalog
from headrace.engines.conformance.catalog import add_one
print("ready", flush=True)
sys.stdin.readline()
catalog = SqlCatalog(sys.argv[1])
threads = [threading.Thread(target=lambda: [add_one(catalog, "visits") for _ in range(10)]) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
"""


def open_files_below(folder: Path) -> list[str]:
    """Files below the folder that this process has open."""
    found = (str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return [path for path in found if path.startswith(str(folder))]


class TestSqlCatalog(CatalogConformance):
    @pytest.fixture
    def open_catalog(self, tmp_path: Path) -> Callable[[], SqlCatalog]:
        return lambda: SqlCatalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")


def test_processes_open_a_new_catalog_at_once_and_write_one_after_the_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    command = [sys.executable, "-c", WRITER, url]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
    catalog = SqlCatalog(url)
    assert value_of(catalog, "visits") == 80
    catalog.close()


def test_commits_are_synced_in_a_write_ahead_log(tmp_path: Path) -> None:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    with catalog.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    catalog.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    SqlCatalog(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE catalog_format SET format = 99")
    database.close()
    with pytest.raises(IncompatibleFormat, match="99"):
        SqlCatalog(f"sqlite:///{path}")
    assert open_files_below(tmp_path) == []
    settings = Settings(data=tmp_path / "data", catalog=f"sqlite:///{path}")
    with pytest.raises(IncompatibleFormat, match="99"):
        open_context(settings, "shop", Specs(), clock=FixedEventClock(0))
    (tmp_path / "data" / "online").write_text("no folder")
    path.unlink()
    with pytest.raises(OSError, match="online"):
        open_context(settings, "shop", Specs(), clock=FixedEventClock(0))
    assert open_files_below(tmp_path) == []


def test_a_path_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable, match="catalog"):
        SqlCatalog(f"sqlite:///{tmp_path / 'absent' / 'catalog.sqlite'}")


def test_a_file_that_is_no_catalog_is_unreachable(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(EngineUnreachable, match="not a database"):
        SqlCatalog(f"sqlite:///{path}")


def test_another_database_is_refused_with_its_scheme(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="`postgresql`"):
        SqlCatalog("postgresql://localhost/headrace")
