"""What `features list` says of how far a view is applied, over all partitions of its stream."""

from __future__ import annotations

import dataclasses

from scenario import PAY, VIEWS
from test_rebuild import NOW, append, payment

from headrace.data.applying import StreamApplier
from headrace.engines.open import open_context
from headrace.features.materialise import OnlineViews
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.system.feature_catalogue import shown

PARTED = dataclasses.replace(PAY, partitions=3)
OWN = next(view for view in VIEWS if view.name == "own")


def test_the_position_counts_all_partitions(tmp_path):
    ctx = open_context(Settings(data=tmp_path), "shop", Specs((PARTED, OWN)), clock=FixedEventClock(NOW))
    append(ctx, "pay", [payment(n, n) | {"a": n} for n in range(30)])
    views = OnlineViews(ctx, [OWN])
    assert shown(ctx, "own").position == {"pay": -1}
    applied = []
    for partition in range(3):
        applier = StreamApplier(ctx, PARTED, [views.sink], partition)
        while applier.step(max_records=4):
            pass
        applied.append(shown(ctx, "own").position["pay"] + 1)
    assert applied[0] < applied[1] < applied[2] == 30
    ctx.close()
