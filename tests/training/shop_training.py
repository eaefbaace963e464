"""The shop of `shop_system.py` with 12,000 visits in its lake, as training and registry tests use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from headrace.app.world import context
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.lake_sink import LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import prepare_data_folder
from headrace.kernel.times import DAY, SECOND, format_time, parse_time

START = parse_time("2026-01-05T00:00:00Z")
VISITS, EVERY = 12_000, 20 * SECOND
END = START + VISITS * EVERY
HOLDOUT = START + 9_000 * EVERY
KNOWN = END + DAY
FILE = Path(__file__).with_name("shop_system.py")


def visits() -> tuple[list[bytes], list[bytes]]:
    """Visits and purchases as JSON. A purchase depends on pages, amount and on which 100 seconds the page was opened."""
    random = np.random.default_rng(7)
    at = START + np.arange(VISITS) * EVERY
    pages = random.integers(1, 30, VISITS)
    amount = np.round(random.lognormal(3, 1, VISITS), 2)
    opened = at // SECOND - random.integers(0, 15, VISITS)
    wish = 0.12 * pages + 0.02 * amount + 2.5 * (opened // 100 % 2) + random.normal(size=VISITS)
    bought = wish > 4.5
    lines = [
        {"visit_id": i, "at": format_time(int(at[i])), "customer": f"c{i * 7 % 400}", "pages": int(pages[i]),
         "amount": None if i % 50 == 0 else float(amount[i]), "opened_at": int(opened[i])}
        for i in range(VISITS)
    ]  # fmt: skip
    purchases = [{"visit_id": int(i), "at": format_time(int(at[i]) + DAY // 2)} for i in np.flatnonzero(bought)]
    return [msgspec.json.encode(line) for line in lines], [msgspec.json.encode(line) for line in purchases]


@contextmanager
def shop(data: Path, file: Path = FILE) -> Iterator[Context]:
    """The shop after all labels matured."""
    prepare_data_folder(data)
    ctx = context({"data": str(data), "system": "shop", "file": str(file), "clock": "virtual"})
    ctx.clock.set(KNOWN)
    for stream, lines in zip(("visit", "purchase"), visits(), strict=True):
        append_raw(ctx, stream, lines, history=True)
        sink = LakeSink(ctx, ctx.specs.get(StreamSpec, stream))
        applier = StreamApplier(ctx, ctx.specs.get(StreamSpec, stream), [sink])
        while applier.step():
            pass
        sink.flush()
    yield ctx
    ctx.compute.close()
    ctx.events.close()
    ctx.online.close()
    ctx.catalog.close()
