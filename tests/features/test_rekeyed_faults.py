"""Re-keyed views whose applier dies at any of its writes: what it goes on with loses and doubles nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest

import headrace as hr
from headrace.app.applying import Applying
from headrace.data.appending import append_raw
from headrace.data.history import log_history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.features.online import FeatureReader
from headrace.features.recompute import LoggedRead, recompute
from headrace.features.rekeyed_views import FAR_BEHIND
from headrace.features.report_index import Entry
from headrace.features.types import FeatureSet, stored_views
from headrace.features.view_lag import view_lags
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.kernel.times import parse_time

system = hr.System("till")


@system.stream(id="id", key="customer", time="at", partitions=2)
class Sale:
    id: int
    at: datetime
    customer: int
    shop: int
    amount: float


@system.stream(id="n", key="n", time="at")
class Refund:
    n: int
    id: int
    at: datetime


joined = system.join(Sale, Refund, on="id")
shop = system.windows(joined, by="shop", over=["7d"], n=hr.count(), total=hr.sum("amount"), share=hr.share(Refund))
everyone = system.windows(Sale, by=(), over=["7d"], name="everyone", n=hr.count(), last=hr.last("amount"))
SPECS = system.specs()
FEATURES = FeatureSet((shop, everyone))
AT = parse_time("2026-01-02T00:00:00Z")
MIDDLE, COUNT = 12, 24


class Killed(BaseException):
    """The process dies here."""


class Process:
    """Counts the writes of its engines, and dies before or after write `at // 2`: then no thread of it writes any more."""

    def __init__(self, at: int) -> None:
        self.at, self.after = divmod(at, 2)
        self.writes, self.dead, self.lock = 0, False, threading.RLock()

    def write(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            place = self.writes
            self.writes += 1
            self.dead = self.dead or (place == self.at and not self.after)
            if self.dead:
                raise Killed
            result = method(*args, **kwargs)
            if place == self.at:
                self.dead = True
                raise Killed
            return result


class Dying:
    """An engine of a process that dies."""

    def __init__(self, engine: Any, process: Process) -> None:
        self._engine, self._process = engine, process

    def __getattr__(self, name: str) -> Any:
        if self._process.dead:
            raise Killed
        method = getattr(self._engine, name)
        is_write = name in ("append", "write", "write_if", "transaction", "retain", "delete")
        return partial(self._process.write, method) if is_write else method


def put(ctx: Context, first: int, end: int) -> None:
    def sale(n: int) -> dict[str, Any]:
        return {"id": n, "at": f"2026-01-01T00:00:{n // 2:02d}Z", "customer": n % 7, "shop": n % 3, "amount": n / 7}

    sales = [json.dumps(sale(n)).encode() for n in [*range(first, end), max(first - 1, 0)]]
    append_raw(ctx, "sale", sales)
    refunds = [{"n": n, "id": n - 1, "at": "2026-01-01T01:00:00Z"} for n in range(first, end, 4)]
    append_raw(ctx, "refund", [json.dumps(refund).encode() for refund in refunds])


def applied(ctx: Context, far_behind: int = FAR_BEHIND) -> None:
    """With 0 every view that lacks something is built in a thread."""
    applying = Applying(ctx, "one", far_behind=far_behind)
    while applying.step(max_records=5) or any(found.lag for found in view_lags(ctx, stored_views(ctx.specs))):
        pass
    applying.leave()


def values(ctx: Context) -> list[Any]:
    reader = FeatureReader(ctx.online, ctx.namespace, FEATURES, SPECS, asking="sale")
    asked = [{"shop": number, "id": None} for number in range(3)]
    rows = [reader.read(request, AT, None) for request in asked]
    reads = [LoggedRead(request, AT, None, row.positions) for request, row in zip(asked, rows, strict=True)]
    frames = {stream: log_history(ctx, stream) for stream in ("sale", "refund")}
    assert recompute(FEATURES, reads, frames, SPECS, asking="sale").tolist() == [row.values.tolist() for row in rows]
    return [(row.values.tolist(), row.positions) for row in rows]


def waiting(ctx: Context) -> int:
    """The reports that wait for their events, in all partitions; each is listed, to be looked at again."""
    states = dict(ctx.online.scan(b"till/view/"))
    entries = [key for key, value in states.items() if b"~on/" in key and Entry.unpack(value).offset < 0]
    assert {key.replace(b"~on/", b"~w/") for key in entries} <= states.keys()
    return len(entries)


def test_a_report_waits_where_its_event_may_come_and_no_longer(tmp_path: Any) -> None:
    ctx = open_context(Settings(data=tmp_path), "till", SPECS, clock=FixedEventClock(AT))
    refunds = [{"n": n, "id": n, "at": "2026-01-01T01:00:00Z"} for n in (100, MIDDLE, COUNT, COUNT + 1)]
    put(ctx, 0, MIDDLE)
    applied(ctx)
    assert waiting(ctx) == 2, "of sale -1, in both partitions; those of sales before are not even begun"
    append_raw(ctx, "refund", [json.dumps(refund).encode() for refund in refunds[1:3]])
    applied(ctx)
    assert waiting(ctx) == 2 + 2 * 2
    put(ctx, MIDDLE, COUNT)
    applied(ctx)
    assert waiting(ctx) == 2 + 2, "the sale has come to one partition, the other need not wait any more"
    append_raw(ctx, "refund", [json.dumps(refunds[0]).encode()])
    put(ctx, COUNT, COUNT + 4)
    applied(ctx)
    assert waiting(ctx) == 2 + 2 and not [key for key, value in ctx.online.scan(b"till/view/") if b"~w/24" in key]
    values(ctx)
    ctx.close()


@pytest.mark.slow
def test_an_applier_killed_at_any_write_goes_on_where_it_was(tmp_path: Any) -> None:
    expected, died, at = None, True, 0
    while died:
        ctx = open_context(Settings(data=tmp_path / str(at)), "till", SPECS, clock=FixedEventClock(AT))
        put(ctx, 0, MIDDLE)
        died = killed(ctx, at)
        put(ctx, MIDDLE, COUNT)
        applied(ctx)
        found = values(ctx)
        expected = expected or found
        assert sum(row[0][0] for row in found) == COUNT and found[0][0][3] == COUNT
        assert found == expected, f"killed at write {at}"
        ctx.close()
        at += 3
    assert at > 90


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the thread dies with its process
def test_an_applier_killed_while_new_views_are_built_beside_the_stream_goes_on_where_it_was(tmp_path: Any) -> None:
    """The history was applied without the views; they come while more events flow."""
    expected, died, at = None, True, 0
    while died:
        ctx = open_context(Settings(data=tmp_path / str(at)), "till", SPECS, clock=FixedEventClock(AT))
        put(ctx, 0, MIDDLE)
        applied(replace(ctx, specs=Specs(SPECS.all(StreamSpec))))
        put(ctx, MIDDLE, COUNT - 4)
        died = killed(ctx, at, far_behind=0)
        put(ctx, COUNT - 4, COUNT)
        applied(ctx, far_behind=0)
        found = values(ctx)
        expected = expected or found
        assert sum(row[0][0] for row in found) == COUNT and found[0][0][3] == COUNT
        assert found == expected, f"killed at write {at}"
        ctx.close()
        at += 3
    assert at > 90


def killed(ctx: Context, at: int, far_behind: int = FAR_BEHIND) -> bool:
    """Apply in a process that dies at the write `at // 2`; whether it did."""
    process = Process(at)
    dying: dict[str, Any] = {name: Dying(getattr(ctx, name), process) for name in ("events", "online", "lake", "catalog")}
    try:
        applied(replace(ctx, **dying), far_behind)
    except Killed:
        return True
    return False
