"""How far the online state of views is behind the streams as they are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.data.positions import positions
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import positions_of
from headrace.features.rekeyed_state import AppliedVector
from headrace.features.routes import route_of
from headrace.features.state import Applied, StateLayout
from headrace.features.types import StoredView
from headrace.kernel.clocks import MACHINE
from headrace.kernel.partitions import base_of


@dataclass(frozen=True, slots=True)
class ViewLag:
    """`lag`: records that the streams of `view` have applied and its state has not, of all keys. `staleness`: how long the
    oldest of them has been in the log, microseconds of the machine clock."""

    view: StoredView
    lag: int
    staleness: int


def view_lags(ctx: Context, views: Sequence[StoredView]) -> list[ViewLag]:
    """Of each view. A view that is built has the lag of its history until then."""
    streams = {view.stream for view in views} | {view.join.report for view in views if view.join is not None}
    # Read before the states: what is applied to a view is never behind the position that is stored then.
    ends = {
        spec.name: [at.next_offset for at in positions(ctx, spec)] for spec in ctx.specs.all(StreamSpec) if spec.name in streams
    }
    now = MACHINE.now()
    found = []
    for view in views:
        lag, oldest = 0, now
        for stream, reached in _reached(ctx, view).items():
            for partition, (end, next_offset) in enumerate(zip(ends[stream], reached, strict=True)):
                if end > next_offset:
                    lag += end - next_offset
                    oldest = min(oldest, _appended(ctx, stream, partition, next_offset, now))
        found.append(ViewLag(view, lag, now - oldest))
    return found


def _reached(ctx: Context, view: StoredView) -> dict[str, list[int]]:
    """Of each stream that the view reads the next offset of each partition, for those of its keys that are the furthest
    behind."""
    route = route_of(view, ctx.specs)
    layout = StateLayout(view, ctx.specs.get(StreamSpec, view.stream), ctx.namespace)
    blobs = ctx.online.get_many([layout.applied_key_of(partition) for partition in range(route.partitions)])
    if not route.rekeyed:
        held = [positions_of(view, Applied.unpack(blob)) for blob in blobs]
        return {name: [max(at[name] + 1 - base_of(part), 0) for part, at in enumerate(held)] for name in held[0]}
    vectors = [AppliedVector.unpack(blob, route).streams for blob in blobs]
    return {
        name: [min(vector[name][part] for vector in vectors) + 1 - base_of(part) for part in range(count)]
        for name, count in route.sources.items()
    }


def _appended(ctx: Context, stream: str, partition: int, offset: int, now: int) -> int:
    """When the record was appended, or the oldest one that is still in the log."""
    topic = ctx.namespace.stream(stream)
    found = ctx.events.read(topic, partition, max(offset, ctx.events.first(topic, partition)), max_records=1)
    return found.timestamps[0] if found else now
