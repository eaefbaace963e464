"""Views that come while the stream flows: built from the history in a thread, then handed to the stream.

From the step at which they are added they are given every batch, as the views that are there already. Until the history is
applied the batches wait. What the history and the waiting batches both hold is skipped by the offsets that the state has
applied, so nothing is missing and nothing is counted twice.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Mapping, Sequence

from headrace.data.applying import AppliedBatch
from headrace.data.fencing import Fence
from headrace.data.positions import position
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.materialise import OnlineViews, ViewWriter, positions_of
from headrace.features.rekeyed_state import AppliedVector
from headrace.features.routes import route_of
from headrace.features.state import StateLayout
from headrace.features.types import StoredView
from headrace.kernel.errors import Fenced, NotReady
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of

MOST_WAITING = 2_000_000
"""Events that may wait in memory; with more, the history is read on instead."""
AT_ONCE = 16
ON_ITS_WAY = 65_536
"""Events that a re-keyed view may lack of what its streams are applied to."""


class _Stoppable(OnlineViews):
    """Ends between two writes once `stopped` is set."""

    def __init__(self, ctx: Context, views: Sequence[StoredView], stopped: threading.Event) -> None:
        super().__init__(ctx, views)
        self._stopped = stopped

    def _apply(self, writers: Sequence[ViewWriter], batch: AppliedBatch) -> None:
        if self._stopped.is_set():
            raise Fenced("the views are not built here any more", hint="whoever has the partition now goes on")
        super()._apply(writers, batch)


class ArrivingViews:
    """New views of one partition. `begin`, `sink` and `at_boundary` are for the thread that applies the partition."""

    def __init__(self, ctx: Context, views: Sequence[StoredView], partition: int, fences: Mapping[str, Fence]) -> None:
        self.hashes = frozenset(view.definition_hash for view in views)
        self._names = sorted(view.name for view in views)
        self._stopped = threading.Event()
        self._online = _Stoppable(ctx, views, self._stopped)
        self._partition = partition
        self._fences = fences
        self._lock = threading.Lock()
        self._waiting: list[AppliedBatch] = []
        self._rows = 0
        self._missed = self._handed_over = False
        self._asked, self._answered = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"backfill-{partition}", daemon=True)

    def begin(self) -> None:
        """Start building, between two steps of the partition: from here on `sink` is given every batch."""
        self._thread.start()

    def stop(self) -> None:
        """Build no more; what is built stays, and whoever adds the views again goes on from there."""
        self._stopped.set()
        self._answered.set()

    def join(self) -> None:
        """Return when the thread has ended, after `stop`."""
        self._thread.join()

    def sink(self, batch: AppliedBatch) -> None:
        """Apply the batch, or let it wait for the history."""
        with self._lock:
            if not self._handed_over:
                if not self._missed:
                    self._waiting.append(batch)
                    self._rows += len(batch.frame)
                    self._missed = self._rows > MOST_WAITING
                return
        self._online.sink(batch)

    def at_boundary(self) -> None:
        """Between two steps: everything that was given is applied now, so what did not fit can be read from the history."""
        if self._asked.is_set():
            with self._lock:
                self._waiting, self._rows, self._missed = [], 0, False
            self._asked.clear()
            self._answered.set()

    def _run(self) -> None:
        LOG.info("view.arriving", views=self._names, partition=self._partition)
        try:
            while not self._build():
                self._answered.clear()
                self._asked.set()
                self._answered.wait()
        except Fenced as error:
            LOG.info("view.abandoned", views=self._names, partition=self._partition, why=error.message)
        except Exception:  # noqa: BLE001  (the edge of the thread: logged; the next start builds them)
            LOG.error("view.failed", views=self._names, partition=self._partition, traceback=traceback.format_exc())
        else:
            LOG.info("view.handed_over", views=self._names, partition=self._partition)

    def _build(self) -> bool:
        """Apply the history, then what waits, until nothing does; False when too much came meanwhile."""
        self._online.rebuild(self._partition, self._fences)
        while True:
            with self._lock:
                if self._missed:
                    return False
                batches = self._waiting[:AT_ONCE]
                del self._waiting[:AT_ONCE]
                self._rows -= sum(len(batch.frame) for batch in batches)
                if not batches:
                    self._handed_over = True
                    return True
            for batch in batches:
                self._online.sink(batch)


def are_behind(ctx: Context, views: Sequence[StoredView]) -> list[str]:
    """The names of the views whose online state is not yet where their streams are applied to."""
    return [view.name for view in views if _is_behind(ctx, view)]


def _is_behind(ctx: Context, view: StoredView) -> bool:
    """A re-keyed view is always a little behind while events flow: what is on its way is no part of its history."""
    route = route_of(view, ctx.specs)
    layout = StateLayout(view, ctx.specs.get(StreamSpec, view.stream), ctx.namespace)
    if not route.rekeyed:
        return any(lag(ctx, view, partition) > 0 for partition in range(layout.stream.partitions))
    ends = {name: [base_of(p) + position(ctx, name, p).next_offset for p in range(n)] for name, n in route.sources.items()}
    for partition in range(route.partitions):
        blob = ctx.online.get(layout.applied_key_of(partition))
        reached = AppliedVector.unpack(blob, route).streams
        missing = max(end - 1 - at for name, found in ends.items() for end, at in zip(found, reached[name], strict=True))
        if missing > (0 if blob is None else ON_ITS_WAY):
            return True
    return False


def check_built(ctx: Context, views: Sequence[StoredView]) -> None:
    """NotReady when the online state of one of them is being built."""
    behind = are_behind(ctx, views)
    if behind:
        raise NotReady(f"view `{behind[0]}` is being built", hint="`headrace features list` shows when it is")


def lag(ctx: Context, view: StoredView, partition: int) -> int:
    """How many offsets the state of the partition's keys is behind what is applied of the streams."""
    layout = StateLayout(view, ctx.specs.get(StreamSpec, view.stream), ctx.namespace)
    base = base_of(partition)
    streams = [view.stream] if view.join is None else [view.stream, view.join.report]
    # Read first: what is applied to a view that has been handed over is never behind the stored position.
    ends = {name: position(ctx, name, partition).next_offset for name in streams}
    held = positions_of(view, ViewWriter(ctx.online, layout, partition).applied())
    return max(end - 1 - max(held[name] - base, -1) for name, end in ends.items())
