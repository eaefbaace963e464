"""Long states: a batch writes what came lately, and every value is that of a state in one blob, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from scenario import PAY, SPECS, VIEWS, bits, frames
from test_online_windows import context, payment

from headrace.data.applying import AppliedBatch
from headrace.engines.online.lmdb_store import LmdbStore
from headrace.engines.online.memory import MemoryOnline
from headrace.features.long_states import LONG
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.state import FORMAT, HEADER, POSITIONS, StateLayout
from headrace.features.types import FeatureSet
from headrace.kernel.errors import IncompatibleFormat
from headrace.kernel.ids import key_bytes
from headrace.kernel.namespace import Namespace

OWN, KEY = VIEWS[0], key_bytes((0,))
LAYOUT = StateLayout(OWN, PAY, Namespace("shop"))
WIDTH = len(LAYOUT.words)
FEW = FeatureSet(tuple(view for view in VIEWS if view.name in ("own", "plain", "all", "tiled")))
WHOLE = 1 << 40
"""So many events no state has: it stays one blob."""


def busy(number: int, seed: int) -> list[dict[str, object]]:
    """Ten events of two keys in each unit of time, a fifth of them late."""
    random = np.random.default_rng(seed)
    late = np.where(random.random(number) < 0.2, random.integers(0, 19, number), 0)
    rows = zip(late.tolist(), random.integers(0, 2, number).tolist(), random.normal(size=number).tolist(), strict=True)
    return [payment(n, max(n // 10 - back, 0), a=a, b="uv"[a], x=x, y=n % 7) for n, (back, a, x) in enumerate(rows)]


def size(blob: bytes | None) -> int:
    return 0 if blob is None else (len(blob) - HEADER.size) // (8 * WIDTH)


def test_values_are_those_of_one_blob(tmp_path):
    payments = busy(660, 1)
    reports = [{"id": n, "at": n // 10 + 3, "_offset": place} for place, n in enumerate(range(0, 660, 3))]
    tables = frames(payments, reports)
    engines = (LmdbStore(tmp_path), MemoryOnline())
    views = [OnlineViews(context(store), FEW.views, long=long) for store, long in zip(engines, (LONG, WHOLE), strict=True)]
    readers = [FeatureReader(store, Namespace("shop"), FEW, SPECS, asking="pay") for store in engines]
    sizes = [2, 60, 25, 1, 110]
    done = told = step = tailed = 0
    while done < len(payments):
        count, step = sizes[step % len(sizes)], step + 1
        done += len(part := tables["pay"][done : done + count])
        known = tables["report"][told : max(done // 3 - 20, 0)]
        told += len(known)
        for each in views:
            each.sink(AppliedBatch("pay", part, done))
            each.sink(AppliedBatch("report", known, told))
        tailed += sum(1 for key, _ in engines[0].scan(b"shop/view/") if b"~tail/" in key)
        newest = done // 10
        for a, at in ((0, newest), (1, newest - 12), (0, newest - 19)):
            asked = payment(done + 5, at, a=a, b="uv"[a], _offset=-1)
            split, whole = (reader.read(asked, at, asked["id"]) for reader in readers)
            assert [bits(value) for value in split.values.tolist()] == [bits(value) for value in whole.values.tolist()]
            assert (split.positions, split.age) == (whole.positions, whole.age)
    assert tailed > 30
    assert not any(b"~tail/" in key for key, _ in engines[1].scan(b"shop/view/"))


def test_a_batch_leaves_the_main_blob_and_the_tail_stays_short():
    online = MemoryOnline()
    views = OnlineViews(context(online), [OWN])
    table = frames(busy(760, 2), [])["pay"]
    keys = [LAYOUT.key(KEY), LAYOUT.tail_key(KEY)]
    views.sink(AppliedBatch("pay", table[:600], 600))
    main, kept = online.get(keys[0]), 0
    assert size(main) >= LONG
    for done in range(601, 761):
        views.sink(AppliedBatch("pay", table[done - 1 : done], done))
        held, tail = online.get_many(keys)
        assert size(tail) < np.sqrt(2 * size(held)) + 1
        kept += held == main
        main = held
    assert kept > 140


@pytest.mark.parametrize("reports_of", [slice(0, 400), slice(390, 400)])
def test_a_report_finds_its_event_in_either_blob(reports_of):
    view = next(view for view in VIEWS if view.name == "all")
    table = frames(
        [payment(n, 5) for n in range(400)],
        [{"id": n, "at": 6, "_offset": place} for place, n in enumerate(range(400)[reports_of])],
    )
    online = MemoryOnline()
    views = OnlineViews(context(online), [view])
    for done in range(395, 401):
        start = 0 if done == 395 else done - 1
        views.sink(AppliedBatch("pay", table["pay"][start:done], done))
    assert any(b"~tail/" in key for key, _ in online.scan(b"shop/view/"))
    views.sink(AppliedBatch("report", table["report"], len(table["report"])))
    features = FeatureSet((view,))
    reader = FeatureReader(online, Namespace("shop"), features, SPECS, asking="pay")
    row = reader.read(payment(999, 6, _offset=-1), 6, 999)
    assert row.values[features.columns.index("all_share_short")] == len(table["report"]) / 401


def test_a_state_of_the_format_before_goes_on_and_one_to_come_is_refused():
    online = MemoryOnline()
    views = OnlineViews(context(online), [OWN])
    table = frames(busy(400, 3), [])["pay"]
    views.sink(AppliedBatch("pay", table[:300], 300))
    applied = online.get(LAYOUT.applied_key)
    assert applied is not None
    _, *rest = POSITIONS.unpack(applied)
    online.write({LAYOUT.applied_key: POSITIONS.pack(1, *rest)})
    views.sink(AppliedBatch("pay", table[300:], 400))
    assert views.positions(OWN) == {"pay": 399}
    online.write({LAYOUT.applied_key: POSITIONS.pack(FORMAT + 1, *rest)})
    with pytest.raises(IncompatibleFormat, match="format 3"):
        views.positions(OWN)
