"""The lake table of a stream is compacted by its sink, whatever is killed in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import MakeContext
from polars.testing import assert_frame_equal
from shop_world import SPECS, apply_all, event

from headrace.data.appending import append_raw
from headrace.data.history import history, log_history
from headrace.engines.context import Context

TABLE = "shop/streams/order"
APPLY = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from shop_world import SPECS, apply_all
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
ctx = open_context(Settings(data=Path(sys.argv[1])), "shop", SPECS, clock=FixedEventClock(0))
apply_all(ctx)
"""


def _commit_each(ctx: Context, first: int, end: int) -> None:
    """Events `e{first}` .. `e{end - 1}`, a commit each, as a process of their own."""
    append_raw(ctx, "order", [event(f"e{number}") for number in range(first, end)])
    apply_all(ctx, max_records=1, flush_rows=1)


def _files(ctx: Context) -> int:
    return len(list((ctx.settings.data / "lake" / TABLE).glob("*.parquet")))


@pytest.mark.slow
def test_commits_of_several_starts_are_compacted_once_whatever_is_killed_in_it(
    make_context: MakeContext, tmp_path: Path
) -> None:
    ctx = make_context(SPECS)
    for start in range(0, 63, 21):
        _commit_each(ctx, start, start + 21)
    assert ctx.lake.uncompacted(TABLE, limit=99) == _files(ctx) == 63
    lock = tmp_path / "data" / "lake" / TABLE / "_delta_log" / "_compaction.lock"
    command = [sys.executable, "-c", APPLY, str(tmp_path / "data"), str(Path(__file__).parent)]
    count, killed = 63, 0
    for wait in (0.0, 0.01, 0.03):
        append_raw(ctx, "order", [event(f"e{count}")])
        count += 1
        lock.unlink(missing_ok=True)
        child = subprocess.Popen(command)
        while not lock.exists() and child.poll() is None:
            time.sleep(0.001)
        time.sleep(wait)
        child.kill()
        killed += child.wait(timeout=60) == -signal.SIGKILL
        assert history(ctx, "order")["id"].to_list() == [f"e{number}" for number in range(count)]
        assert ctx.lake.read(TABLE)["_offset"].sort().to_list() == list(range(count))
    assert killed, "none was killed in it"
    _commit_each(ctx, count, count + 1)
    assert ctx.lake.uncompacted(TABLE, limit=99) < 64
    ctx.lake.compact(TABLE)
    ctx.lake.vacuum(TABLE, hours=0)
    assert _files(ctx) == 1, "what was merged and what the killed ones have left is gone"
    _commit_each(ctx, count + 1, count + 2)
    assert history(ctx, "order")["id"].to_list() == [f"e{number}" for number in range(count + 2)]
    assert_frame_equal(history(ctx, "order"), log_history(ctx, "order"))
