"""What no view needs any more is deleted at a start; a view that comes back is built from the history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_rekeyed_faults import AT, COUNT, MIDDLE, SPECS, Dying, Killed, Process, applied, put, values

from headrace.app.applying import Applying
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import Fenced
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.release.live import drop_unneeded

STREAMS = Specs(SPECS.all(StreamSpec))
TOPICS = {"till/rekeyed/sale/-": 1, "till/rekeyed/sale/shop": 2}


def opened(folder: Path) -> Context:
    return open_context(Settings(data=folder), "till", SPECS, clock=FixedEventClock(AT))


def left(ctx: Context) -> tuple[list[bytes], dict[str, int]]:
    """The keys of states, and the re-keyed topics."""
    topics = {name: count for name, count in ctx.events.topics().items() if "/rekeyed/" in name}
    return [key for key, _ in ctx.online.scan(b"till/view/")], topics


def test_states_and_topics_of_views_that_are_gone_are_deleted(tmp_path: Path) -> None:
    ctx = opened(tmp_path)
    put(ctx, 0, MIDDLE)
    applied(ctx)
    everything = left(ctx)
    drop_unneeded(ctx)
    assert left(ctx) == everything and everything[1] == TOPICS
    shop, everyone = (view.definition_hash.encode() for view in SPECS.all(type(SPECS.everything()[-1])))
    drop_unneeded(replace(ctx, specs=Specs([*STREAMS.everything(), SPECS.everything()[-1]])))
    assert left(ctx) == ([key for key in everything[0] if everyone in key], {"till/rekeyed/sale/-": 1})
    assert 0 < len(left(ctx)[0]) < len(everything[0]) and not any(shop in key for key in left(ctx)[0])
    drop_unneeded(replace(ctx, specs=STREAMS))
    assert left(ctx) == ([], {})
    put(ctx, MIDDLE, COUNT)
    applied(ctx)
    assert (sum(row[0][0] for row in values(ctx)), left(ctx)[1]) == (COUNT, TOPICS)
    ctx.close()


def test_an_applier_of_an_earlier_run_writes_nothing_into_what_was_deleted(tmp_path: Path) -> None:
    ctx = opened(tmp_path)
    put(ctx, 0, MIDDLE)
    orphan = Applying(ctx, "one")
    while orphan.step(max_records=5):
        pass
    share = orphan._shares[0]
    drop_unneeded(replace(ctx, specs=STREAMS))
    put(ctx, MIDDLE, COUNT)
    with pytest.raises(Fenced):
        while share.step(max_records=5):
            pass
    assert left(ctx)[0] == []
    applied(ctx)
    assert sum(row[0][0] for row in values(ctx)) == COUNT
    ctx.close()


@pytest.mark.slow
def test_a_start_killed_while_it_deletes_leaves_nothing_that_passes_for_whole(tmp_path: Path) -> None:
    died, at = True, 0
    while died:
        ctx = opened(tmp_path / str(at))
        put(ctx, 0, MIDDLE)
        applied(ctx)
        process = Process(at)
        dying: dict[str, Any] = {name: Dying(getattr(ctx, name), process) for name in ("events", "online")}
        try:
            drop_unneeded(replace(ctx, specs=STREAMS, **dying))
            died = False
        except Killed:
            died = True
        put(ctx, MIDDLE, COUNT)
        drop_unneeded(ctx)  # the next start has the views again
        applied(ctx)
        assert sum(row[0][0] for row in values(ctx)) == COUNT, f"killed at write {at}"
        ctx.close()
        at += 1
    assert at > 10
