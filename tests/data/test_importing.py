"""Imports of large files: bounded, sorted, and killed anywhere without a loss or a double."""

from __future__ import annotations

import gzip
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from conftest import MakeContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_world import ORDER, SPECS, Faults, Killed, dying, event

from headrace.data.file_rows import file_rows
from headrace.data.ingest import ingest
from headrace.data.sorting import INDEX, kept_rows, sorted_rows
from headrace.engines.context import Context
from headrace.kernel.errors import EngineUnreachable, NotFound

LARGE = 70_000
"""Rows of two batches."""


def _payments(rows: int) -> pl.DataFrame:
    place = pl.int_range(rows, eager=True)
    at = pl.Series("at", (place * 7919 % rows) * 1_000_000, dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"id": place.cast(pl.String), "at": at, "customer": place % 7, "amount": place * 0.5})


def _logged(ctx: Context) -> list[bytes]:
    values: list[bytes] = []
    while part := ctx.events.read("shop/streams/order", 0, len(values)).values:
        values += part
    return values


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(
        st.lists(st.tuples(st.integers(0, 3) | st.just(2**63 - 1), st.none() | st.integers(0, 2)), max_size=4), max_size=9
    ),
    run_bytes=st.sampled_from([1, 60, 200]),
)
def test_rows_of_any_size_are_sorted_by_created_and_id_and_ties_keep_their_order(
    parts: list[list[tuple[int, int | None]]], run_bytes: int
) -> None:
    place = iter(range(1000))
    frames = [
        pl.DataFrame(
            [(created, id_, str(next(place)).encode()) for created, id_ in rows],
            {"_created": pl.Int64, "_id": pl.Int64, "event": pl.Binary},
            orient="row",
        )
        for rows in parts
    ]
    with TemporaryDirectory() as folder:
        rows = sorted_rows(frames, Path(folder), run_bytes=run_bytes)
        found = [row for frame in rows for row in frame.drop("_place").rows()]
        kept = kept_rows(Path(folder))
        again = None if kept is None else [row for frame in kept for row in frame.drop("_place").rows()]
    expected = sorted(
        (row for frame in frames for row in frame.rows()), key=lambda row: (row[0], row[1] is None, row[1] or 0, int(row[2]))
    )
    assert found == expected
    assert rows.rows == len(expected)
    assert again in ((found,) if expected and run_bytes == 1 else (None, found))


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    frame = pl.DataFrame({"_created": [1], "_id": ["a"], "event": [b"x" * 1000]})
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(EngineUnreachable, match="cannot sort in"):
            sorted_rows([frame], tmp_path, run_bytes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept_rows(tmp_path) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(st.text(st.sampled_from('ab,"\n'), max_size=6), min_size=1, max_size=6),
    block=st.integers(1, 40),
    packed=st.booleans(),
)
def test_a_csv_file_is_the_same_rows_in_blocks_of_any_size(tmp_path: Path, cells: list[str], block: int, packed: bool) -> None:
    frame = pl.DataFrame({"id": [f"{n}{cell}" for n, cell in enumerate(cells)], "at": "2026-01-30", "customer": 1, "amount": 1})
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(frame.write_csv().encode()) if packed else frame.write_csv().encode())
    found = pl.concat(file_rows(ORDER, path, tmp_path, block_bytes=block))
    assert found["_id"].to_list() == frame["id"].to_list()


@pytest.mark.parametrize("at", range(14))
def test_an_import_killed_at_any_write_goes_on_where_it_was(make_context: MakeContext, tmp_path: Path, at: int) -> None:
    _payments(LARGE).write_parquet(tmp_path / "a.parquet")
    ctx = make_context(SPECS)
    with pytest.raises(Killed):
        ingest(dying(ctx, Faults(at)), "order", tmp_path / "a.parquet")
    before = ctx.events.end("shop/streams/order", 0)
    result = ingest(make_context(SPECS), "order", tmp_path / "a.parquet")
    assert (result.rows, result.skipped) == (LARGE - before, before)
    values = _logged(ctx)
    assert len(values) == len(set(values)) == LARGE
    ingest(make_context(SPECS, system="other"), "order", tmp_path / "a.parquet")
    assert values == ctx.events.read("other/streams/order", 0, 0, max_records=LARGE).values


CHILD = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from shop_world import SPECS
import headrace.app.tables
from headrace.app.stopping import stopped_by_sigterm
from headrace.data.ingest import ingest
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import Interrupted
from headrace.kernel.settings import Settings
ctx = open_context(Settings(data=Path(sys.argv[1])), "shop", SPECS, clock=FixedEventClock(1_900_000_000_000_000))
with stopped_by_sigterm():
    try:
        print(ingest(ctx, "order", Path(sys.argv[2])).rows)
    except Interrupted as stopped:
        print(stopped)
        sys.exit(stopped.exit_code)
"""


def _child(data: Path, file: Path) -> subprocess.Popen[str]:
    given = [sys.executable, "-c", CHILD, str(data), str(file), *(path for path in sys.path if path.endswith("tests/data"))]
    return subprocess.Popen(given, stdout=subprocess.PIPE, text=True)


def test_an_import_whose_process_is_killed_loses_and_doubles_nothing(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    rows = 6 * LARGE
    _payments(rows).write_parquet(tmp_path / "a.parquet")
    killed = _child(tmp_path / "data", tmp_path / "a.parquet")
    while ctx.events.end("shop/streams/order", 0) == 0:
        assert killed.poll() is None
        time.sleep(0.001)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(_logged(ctx)) < rows
    again = _child(tmp_path / "data", tmp_path / "a.parquet")
    assert 0 < int(again.communicate()[0]) < rows
    values = _logged(ctx)
    assert len(values) == len(set(values)) == rows
    assert list((ctx.run_folder / "ingest").iterdir()) == []


@pytest.mark.slow
def test_an_import_that_is_stopped_says_how_to_go_on_and_does_not_sort_again(make_context: MakeContext, tmp_path: Path) -> None:
    """So many rows that they are sorted on disk."""
    ctx, rows = make_context(SPECS), 1_300_000
    frame = _payments(rows).with_columns(pl.col("id").str.zfill(90))
    frame.write_parquet(tmp_path / "a.parquet")
    stopped = _child(tmp_path / "data", tmp_path / "a.parquet")
    while ctx.events.end("shop/streams/order", 0) < LARGE:
        assert stopped.poll() is None
        time.sleep(0.001)
    stopped.terminate()
    said = stopped.communicate()[0]
    reached = ctx.events.end("shop/streams/order", 0)
    assert stopped.returncode == 130, said
    found = re.search(r"was stopped after at least ([\d,]+) of its rows\nhint: give the same command again", said)
    assert found is not None, said
    assert 0 < int(found[1].replace(",", "")) <= reached < rows
    (scratch,) = (ctx.run_folder / "ingest").iterdir()
    assert (scratch / INDEX).exists()
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(scratch.glob("*.parquet"))]
    assert len(before) > 2
    killed = _child(tmp_path / "data", tmp_path / "a.parquet")
    while ctx.events.end("shop/streams/order", 0) == reached:
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.communicate()
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(scratch.glob("*.parquet"))] == before
    assert _child(tmp_path / "data", tmp_path / "a.parquet").wait() == 0
    values = _logged(ctx)
    assert len(values) == len(set(values)) == rows
    assert list((ctx.run_folder / "ingest").iterdir()) == []


def test_a_folder_is_imported_in_the_order_of_its_names_and_only_what_is_new(make_context: MakeContext, tmp_path: Path) -> None:
    ctx = make_context(SPECS)
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(NotFound, match="no file of events"):
        ingest(ctx, "order", folder)
    (folder / "b.ndjson").write_bytes(event("b", at="2026-01-01T00:00:00Z"))
    (folder / "a.ndjson.gz").write_bytes(gzip.compress(event("a2") + b"\n" + event("a1")))
    (folder / "_SUCCESS").write_bytes(b"")
    result = ingest(ctx, "order", folder)
    assert (result.files, result.rows, result.skipped) == (2, 3, 0)
    (folder / "c.csv").write_text("id,at,customer,amount\nc,2026-01-30,1,1\n")
    result = ingest(ctx, "order", folder)
    assert (result.files, result.rows, result.skipped, result.first_offset, result.next_offset) == (3, 1, 3, 3, 4)
    assert [value.split(b'"id":"')[1][:2].strip(b'"') for value in _logged(ctx)] == [b"a1", b"a2", b"b", b"c"]


def test_what_other_imports_have_sorted_stays_for_a_week_of_the_last_four(make_context: MakeContext, tmp_path: Path) -> None:
    ctx, day = make_context(SPECS), 86_400
    folder, now = ctx.run_folder / "ingest", time.time()
    for number in range(6):
        (folder / f"order-{number}").mkdir(parents=True)
        (folder / f"order-{number}" / INDEX).write_bytes(b"{}")
        os.utime(folder / f"order-{number}" / INDEX, (now - number * day, now - number * day))
    os.utime(folder / "order-3" / INDEX, (now - 7.1 * day, now - 7.1 * day))
    (folder / "order-unsorted").mkdir()
    (tmp_path / "a.csv").write_text("id,at,customer,amount\nc,2026-01-30,1,1\n")
    for _ in range(2):
        assert ingest(ctx, "order", tmp_path / "a.csv").files == 1
        assert sorted(left.name[-1] for left in folder.iterdir()) == ["0", "1", "2", "4"]
    for number in (0, 1, 2):
        os.utime(folder / f"order-{number}" / INDEX, (now - 8 * day, now - 8 * day))
    ingest(ctx, "order", tmp_path / "a.csv")
    assert [left.name for left in folder.iterdir()] == ["order-4"]
