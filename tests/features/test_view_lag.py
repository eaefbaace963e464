"""How far the state of views is behind its streams, as `/metrics` and the status tell it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from test_rekeyed_faults import AT, COUNT, SPECS, applied, put

from headrace.app.metrics import render_metrics
from headrace.app.status import view_health
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import MACHINE, FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import SECOND

REPORTS = (COUNT + 3) // 4


def figures(ctx: Context, name: str) -> dict[str, float]:
    """By view."""
    text = render_metrics(ctx, [])[0].decode()
    return {view: float(value) for view, value in re.findall(rf'headrace_view_{name}{{.*view="(\w+)"}} (\S+)', text)}


def test_a_view_lags_by_what_its_streams_have_applied_without_it(tmp_path: Path) -> None:
    ctx = open_context(Settings(data=tmp_path), "till", SPECS, clock=FixedEventClock(AT))
    put(ctx, 0, COUNT)
    assert figures(ctx, "lag") == {"shop": 0, "everyone": 0}, "nothing is applied yet: the streams lag, not the views"
    oldest = min(ctx.events.read(ctx.namespace.stream("sale"), part, 0).timestamps[0] for part in (0, 1))
    applied(replace(ctx, specs=Specs(SPECS.all(StreamSpec))))
    least = (MACHINE.now() - oldest) / SECOND
    assert figures(ctx, "lag") == {"shop": COUNT + 1 + REPORTS, "everyone": COUNT + 1}, "with one that came twice"
    staleness = figures(ctx, "staleness_seconds")
    assert min(staleness.values()) >= least - 0.001, "the figure is rounded to milliseconds"
    assert [(view.view, view.stream, view.lag) for view in view_health(ctx)] == [
        ("shop", "sale", COUNT + 1 + REPORTS), ("everyone", "sale", COUNT + 1),
    ]  # fmt: skip
    applied(ctx)
    assert figures(ctx, "lag") == figures(ctx, "staleness_seconds") == {"shop": 0, "everyone": 0}
    ctx.close()
