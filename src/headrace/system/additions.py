"""Estimating from the lake how many additions windows take, so that `check` can demand a resolution before anything runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.engines.lake.port import Lake
from headrace.features.codes import key_codes
from headrace.features.frames import passing, predicate_inputs
from headrace.features.kernel import check_additions
from headrace.features.timeline import ALWAYS, Asked, Events, Timeline
from headrace.features.types import EventSpine, WindowView
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs
from headrace.system.declarations import System
from headrace.training.types import ModelSpec

MOST_EVENTS = 500_000
"""Of more events in a table, every so manieth is read: windows of the rest hold as many times fewer."""


def demanded(lake: Lake, system: System) -> Iterator[InvalidSystem]:
    """For each view that needs a resolution, why. A view is asked at the events of each model that takes it, and one that no
    model takes at its own. Only the events that are in the lake count."""
    specs, names = system.specs(), Namespace(system.name)
    for view, asking in _pairs(specs):
        try:
            _check(lake, names, view, specs.get(StreamSpec, view.stream), specs.get(StreamSpec, asking))
        except InvalidSystem as error:
            yield error


def _pairs(specs: Specs) -> list[tuple[WindowView, str]]:
    """The views without a resolution, each with the streams whose events ask it; of two streams only the first that demands."""
    asked = [
        (view, model.spine.stream)
        for model in specs.all(ModelSpec)
        if isinstance(model.spine, EventSpine)
        for view in model.features.views
        if isinstance(view, WindowView)
    ]
    taken = {view.name for view, _ in asked}
    asked += [(view, view.stream) for view in specs.all(WindowView) if view.name not in taken]
    return [pair for pair in dict.fromkeys(asked) if not pair[0].resolution]


def _check(lake: Lake, names: Namespace, view: WindowView, stream: StreamSpec, asking: StreamSpec) -> None:
    """InvalidSystem when the view needs a resolution to be asked at the events of `asking`."""
    events = _columns(lake, names, stream, (*view.by, stream.time, *predicate_inputs(view)))
    points = _columns(lake, names, asking, (*view.by, asking.time))
    if events is None or points is None:
        return
    counts = pl.collect_all([events.select(pl.len()), points.select(pl.len())])
    one_in = max(1, *(-(-count.item() // MOST_EVENTS) for count in counts))
    seen, asked = pl.collect_all([events.gather_every(one_in), points.gather_every(one_in)])
    seen = seen.filter(pl.Series(passing(view, stream, seen), dtype=pl.Boolean))
    key, asked_key = key_codes([seen[name] for name in view.by], [asked[name] for name in view.by], len(seen), len(asked))
    known, own = np.flatnonzero(key >= 0), np.full(len(asked), -1, np.int64)
    if not len(known) or not len(asked):
        return
    key, asked_key = key[known], np.minimum(asked_key, int(key.max()) + 1)
    time = seen[stream.time].to_physical().to_numpy()[known]
    at = asked[asking.time].to_physical().to_numpy()
    always = np.broadcast_to(ALWAYS, len(asked))
    timeline = Timeline(Events(key, time, known, {}))
    check_additions(view, timeline, Asked(asked_key, at, always, own, always, own), one_in=one_in)


def _columns(lake: Lake, names: Namespace, stream: StreamSpec, columns: tuple[str, ...]) -> pl.LazyFrame | None:
    """The columns of the events in the lake; None where it has no table or one without a column."""
    table = names.name("streams", stream.name)
    if lake.version(table) < 0:
        return None
    lazy = lake.scan(table)
    wanted = list(dict.fromkeys(columns))
    return lazy.select(wanted) if set(wanted) <= set(lazy.collect_schema().names()) else None
