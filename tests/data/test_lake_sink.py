"""The lake is written beside the events: a commit that fails is told at a later batch, and what it held is committed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from shop_world import GOOD, ORDER, SPECS

from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.history import history, log_history
from headrace.data.lake_sink import LakeSink
from headrace.engines.context import Context
from headrace.kernel.errors import EngineUnreachable

MakeContext = Callable[..., Context]


class FullOnce:
    """A lake whose first append finds no space."""

    def __init__(self, lake: Any) -> None:
        self._lake = lake
        self.appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def append(self, *args: Any, **kwargs: Any) -> Any:
        self.appends += 1
        if self.appends == 1:
            raise EngineUnreachable("the disk is full", hint="free disk space")
        return self._lake.append(*args, **kwargs)


def test_a_commit_that_fails_is_told_and_done_again(make_context: MakeContext) -> None:
    ctx = make_context(SPECS)
    append_raw(ctx, "order", GOOD)
    lake = FullOnce(ctx.lake)
    sink = LakeSink(replace(ctx, lake=lake), ORDER, flush_rows=1)  # type: ignore[arg-type]
    applier = StreamApplier(ctx, ORDER, [sink])
    assert applier.step(2) == 2
    with pytest.raises(EngineUnreachable, match="full"):
        sink.flush()
    while applier.step(2):
        pass
    sink.flush()
    sink.close()
    assert lake.appends > 1
    stored = ctx.lake.read("shop/streams/order")["_offset"].sort().to_list()
    assert stored == list(range(len(GOOD)))
    assert history(ctx, "order").equals(log_history(ctx, "order"))
