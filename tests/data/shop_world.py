"""A small shop: one stream with every kind of field, and engines that die at a chosen call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from headrace.data.applying import AppliedBatch, StreamApplier
from headrace.data.lake_sink import LakeSink
from headrace.data.types import Field, OneOf, Range, StreamSpec
from headrace.engines.context import Context
from headrace.kernel.specs import Specs
from headrace.kernel.times import DAY

ORDER = StreamSpec(
    "order",
    (
        Field("id", "str"),
        Field("at", "datetime"),
        Field("customer", "int"),
        Field("amount", "float", rules=(Range(min=0),)),
        Field("color", "str", True, (OneOf(("red", "blue")),)),
    ),
    id="id",
    key="customer",
    time="at",
    max_future=DAY,
)
SPECS = Specs([ORDER])
EARLY, LATE = "2026-01-30T10:00:00Z", "2026-01-31T10:00:00Z"


def event(id: str, **changed: Any) -> bytes:
    document = {"id": id, "at": EARLY, "customer": 1, "amount": 2.5, "color": None} | changed
    return msgspec.json.encode({name: value for name, value in document.items() if value is not None})


GOOD = [event(f"g{n}", customer=n % 3, amount=n / 4) for n in range(6)]
AGAIN = b'{ "customer":0, "amount": 0, "color":null, "id" : "g0", "at": "2026-01-30T11:00:00+01:00", "extra": [1] }'
"""`g0` once more, in other words."""
BAD = {
    event("wrong_type", customer="x"): ("customer", "expected an integer"),
    event("negative", amount=-1): ("amount", "below the minimum"),
    event("no_key", customer=None): ("customer", "is missing"),
    event("g1", amount=99): ("id", "other content"),
    event("year_3000", at="3000-01-01T00:00:00Z"): ("at", "ahead of the clock"),
    event("truncated")[:-9]: (None, "not JSON"),
    b"\xff": (None, "not JSON"),
}
STORY = [GOOD[0], GOOD[1], *list(BAD)[:4], AGAIN, *GOOD[2:5], *list(BAD)[4:], GOOD[1], GOOD[5]]


class Killed(BaseException):
    """The process dies here."""


class Faults:
    """Counts the writes of all wrapped engines and dies at one of them, before or after it is done; whoever is dead, in
    whatever thread, writes nothing more."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0
        self._died = False

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        place, after = divmod(self.at, 2)
        number = self.calls
        self.calls += 1
        if self._died or (number == place and not after):
            self._died = True
            raise Killed
        result = function(*args, **kwargs)
        if number == place:
            self._died = True
            raise Killed
        return result


class Faulty:
    """An engine whose writes may die."""

    def __init__(self, engine: Any, faults: Faults, writes: tuple[str, ...]) -> None:
        self._engine, self._faults, self._writes = engine, faults, writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        if name not in self._writes:
            return method
        return lambda *args, **kwargs: self._faults.call(method, *args, **kwargs)


def dying(ctx: Context, faults: Faults) -> Context:
    return replace(
        ctx,
        events=Faulty(ctx.events, faults, ("append",)),  # type: ignore[arg-type]
        online=Faulty(ctx.online, faults, ("write", "write_if")),  # type: ignore[arg-type]
        lake=Faulty(ctx.lake, faults, ("append",)),  # type: ignore[arg-type]
        catalog=Faulty(ctx.catalog, faults, ("transaction",)),  # type: ignore[arg-type]
    )


class Collected:
    """A sink that keeps its own offset, as every sink must."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []
        self.next_offset = 0

    def __call__(self, batch: AppliedBatch) -> None:
        if batch.next_offset > self.next_offset:
            self.frames.append(batch.frame.filter(pl.col("_offset") >= self.next_offset))
            self.next_offset = batch.next_offset


def apply_all(
    ctx: Context, *sinks: Collected, spec: StreamSpec = ORDER, max_records: int = 65_536, flush_rows: int = 262_144
) -> None:
    """Everything in the log, into the sinks and the lake, as a fresh process."""
    lake = LakeSink(ctx, spec, flush_rows=flush_rows)
    try:
        applier = StreamApplier(ctx, spec, [*sinks, lake])
        while applier.step(max_records):
            pass
        lake.flush()
    finally:
        lake.close()
