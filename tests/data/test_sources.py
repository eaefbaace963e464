"""Batch sources: what is new goes into the log once, whatever is killed when."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import NOW, MakeContext
from shop_world import ORDER, Collected, Faults, Killed, apply_all, dying, event

from headrace.data.records import decode_records
from headrace.data.sources import Sources, read_source, source_status
from headrace.data.types import Folder, Query, SourceSpec
from headrace.engines.context import Context
from headrace.engines.events.port import EventLog
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import Conflict, EngineUnreachable, InvalidInput, NotFound
from headrace.kernel.specs import Specs
from headrace.kernel.times import HOUR, format_time
from headrace.pipelines.claims import Claim

SQL = "SELECT id, at, customer, amount, changed FROM orders WHERE note <> ':not'"


def _ids(ctx: Context) -> list[str]:
    records = ctx.events.read("shop/streams/order", 0, 0)
    return decode_records(ORDER, records)[0]["id"].to_list() if records.values else []


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE orders (id TEXT, at TEXT, customer INTEGER, amount NUMERIC, changed TEXT, note TEXT)")
    yield connection
    connection.close()


def _insert(database: sqlite3.Connection, *rows: tuple[str, str | None]) -> None:
    given = [(id_, "2026-01-30 10:00:00", 1, 2.5, changed, "") for id_, changed in rows]
    database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", given)


def _specs(reads: Folder | Query) -> Specs:
    return Specs([ORDER, SourceSpec("orders", "order", reads)])


def _folder(path: Path, **changed: Any) -> Specs:
    return _specs(Folder(str(path), HOUR, **changed))


def _query(tmp_path: Path, **changed: Any) -> Specs:
    return _specs(
        Query(**({"sql": SQL, "watermark": "changed", "url": f"sqlite:///{tmp_path}/shop.sqlite"} | changed), every=HOUR)
    )


def test_a_folder_gives_new_and_changed_files_once_and_in_order(make_context: MakeContext, incoming: Path) -> None:
    ctx = make_context(_folder(incoming))
    assert read_source(ctx, "orders").rows == 0
    (incoming / "2.ndjson").write_bytes(event("c") + b"\n" + event("b"))
    (incoming / "1.csv").write_text("id,at,customer,amount\na,2026-01-30,1,1\n")
    (incoming / ".3.csv").write_text("unfinished")
    assert read_source(ctx, "orders").rows == 3
    assert _ids(ctx) == ["a", "b", "c"]
    assert read_source(make_context(_folder(incoming)), "orders").rows == 0
    (incoming / "2.ndjson").rename(incoming / "4.ndjson")
    assert read_source(ctx, "orders").rows == 0, "a file is known by its content"
    (incoming / "4.ndjson").write_bytes(event("c") + b"\n" + event("d"))
    assert read_source(ctx, "orders").rows == 2
    apply_all(ctx)
    assert ctx.lake.read("shop/streams/order")["id"].to_list() == ["a", "b", "c", "d"]


def test_events_of_a_source_were_created_when_they_were_read_unless_it_is_history(
    make_context: MakeContext, incoming: Path
) -> None:
    (incoming / "1.ndjson").write_bytes(event("a"))
    for history in (False, True):
        ctx = make_context(_folder(incoming, history=history), system=f"s{int(history)}")
        read_source(ctx, "orders")
        kept = Collected()
        apply_all(ctx, kept)
        frame = pl.concat(kept.frames)
        assert (frame["_created"] == frame["at"].to_physical()).to_list() == [history]
        assert history or frame["_created"].to_list() == [NOW]


@pytest.mark.parametrize("at", range(18))
def test_a_folder_killed_at_any_write_loses_and_doubles_nothing(make_context: MakeContext, incoming: Path, at: int) -> None:
    (incoming / "1.ndjson").write_bytes(event("a") + b"\n" + event("b"))
    (incoming / "2.ndjson").write_bytes(event("c"))
    with pytest.raises(Killed):
        read_source(dying(make_context(_folder(incoming)), Faults(at)), "orders")
    ctx = make_context(_folder(incoming))
    read_source(ctx, "orders")
    assert _ids(ctx) == ["a", "b", "c"]
    assert read_source(ctx, "orders").rows == 0


def test_a_query_gives_what_is_new_by_its_watermark_ties_too(
    make_context: MakeContext, tmp_path: Path, database: sqlite3.Connection
) -> None:
    ctx = make_context(_query(tmp_path))
    _insert(database, ("b", "t2"), ("a", "t1"), ("never", None))
    assert read_source(ctx, "orders").rows == 2
    _insert(database, ("c", "t2"), ("d", "t3"))
    ctx = make_context(_query(tmp_path))
    assert read_source(ctx, "orders").rows == 2
    assert read_source(ctx, "orders").rows == 0
    assert _ids(ctx) == ["a", "b", "c", "d"]


def test_a_text_among_the_numbers_of_a_watermark_hides_none_that_come_later(
    make_context: MakeContext, tmp_path: Path, database: sqlite3.Connection
) -> None:
    """SQLite keeps both in a column, and orders every text behind every number."""
    ctx = make_context(_query(tmp_path))
    database.execute("CREATE TABLE untyped (id, at, customer, amount, changed)")
    database.executemany("INSERT INTO untyped VALUES (?, '2026-01-30', 1, 1, ?)", [("a", 1), ("b", 1.5), ("text", "2026")])
    database.commit()
    ctx = make_context(_query(tmp_path, sql="SELECT * FROM untyped"))
    for added in ("c", "d"):
        with pytest.raises(InvalidInput, match=r"was .* and is '2026'"):
            read_source(ctx, "orders")
        database.execute("INSERT INTO untyped VALUES (?, '2026-01-30', 1, 1, 2)", (added,))
        database.commit()
    with pytest.raises(InvalidInput):
        read_source(ctx, "orders")
    assert _ids(ctx) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("at", range(6))
def test_a_query_killed_at_any_write_loses_and_doubles_nothing(
    make_context: MakeContext, tmp_path: Path, database: sqlite3.Connection, at: int
) -> None:
    _insert(database, ("a", "t1"), ("b", "t2"))
    with pytest.raises(Killed):
        read_source(dying(make_context(_query(tmp_path)), Faults(at)), "orders")
    _insert(database, ("c", "t2"), ("d", "t3"))
    ctx = make_context(_query(tmp_path))
    read_source(ctx, "orders")
    assert _ids(ctx) == ["a", "b", "c", "d"]


def test_what_goes_wrong_is_told_kept_and_tried_again(
    make_context: MakeContext, tmp_path: Path, incoming: Path, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DB", "sqlite:///nowhere/secret.sqlite")
    for specs, error, words in (
        (_folder(tmp_path / "none"), NotFound, "no folder"),
        (_query(tmp_path, watermark="wrong"), EngineUnreachable, "wrong"),
        (_query(tmp_path, url="env:SHOP_DB"), EngineUnreachable, "`env:SHOP_DB` fails: unable to open"),
        (_query(tmp_path, url="nothing://"), InvalidInput, "no database"),
    ):
        ctx = make_context(specs)
        with pytest.raises(error, match=words) as raised:
            read_source(ctx, "orders")
        (status,) = source_status(ctx)
        assert status.error == raised.value.message
        assert "secret" not in str(raised.value)
        assert (status.read_at, status.next_at) == (None, format_time(NOW + 60_000_000))
    (incoming / "1.ndjson").write_bytes(event("a"))
    (incoming / "2.csv").write_text("id\n1\n")
    (incoming / "3.csv.gz").write_bytes(b"id")
    (incoming / "4.ndjson").write_bytes(event("b"))
    ctx = make_context(_folder(incoming))
    claim = Claim(ctx.run_folder / "claims", "source", "orders")
    assert claim.take()
    with pytest.raises(Conflict):
        read_source(ctx, "orders")
    claim.release()
    with pytest.raises(InvalidInput, match="no column `at`"):
        read_source(ctx, "orders")
    assert _ids(ctx) == ["a", "b"], "a bad file holds up no other"
    (status,) = source_status(ctx)
    assert (status.rows, status.error is None) == (2, False)


class FullDisk:
    """An event log that takes nothing more."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, *_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_reading_that_ends_by_any_error_is_no_reading(
    make_context: MakeContext, tmp_path: Path, database: sqlite3.Connection
) -> None:
    ctx = make_context(_query(tmp_path))
    _insert(database, ("a", "t1"))
    with pytest.raises(OSError, match="No space left"):
        read_source(replace(ctx, events=FullDisk(ctx.events)), "orders")  # type: ignore[arg-type]
    (status,) = source_status(ctx)
    assert (status.read_at, status.next_at) == (None, format_time(NOW + 60_000_000))
    assert "No space left" in str(status.error)
    assert read_source(ctx, "orders").rows == 1
    assert source_status(ctx)[0].error is None


def test_sources_are_read_when_they_are_due_by_one_process(make_context: MakeContext, incoming: Path) -> None:
    clock = FixedEventClock(NOW)
    ctx = make_context(_folder(incoming), clock=clock)
    sources = Sources(ctx)
    sources.step()
    (incoming / "1.ndjson").write_bytes(event("a"))
    sources.step()
    assert _ids(ctx) == []
    clock.set(NOW + HOUR)
    assert ctx.catalog.lease("shop/sources", "someone else", 60) is False
    sources.step()
    assert _ids(ctx) == ["a"]
    (status,) = source_status(ctx)
    assert (status.rows, status.read_at, status.next_at) == (1, format_time(NOW + HOUR), format_time(NOW + 2 * HOUR))
