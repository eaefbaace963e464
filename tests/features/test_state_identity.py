"""A state that was kept by another declaration of the stream is not read: it is built again from the history."""

from __future__ import annotations

import dataclasses

import pytest
from scenario import PAY
from test_rebuild import NOW, append, apply, payment

from headrace.data.types import StreamSpec
from headrace.engines.open import open_context
from headrace.features.materialise import OnlineViews
from headrace.features.online import FeatureReader
from headrace.features.types import Aggregate, AttributeView, FeatureSet, WindowView
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs

MINUTE = WindowView("minute", "pay", ("a",), (("m", 60),), (("n", Aggregate("count")), ("most", Aggregate("max", "z"))))
LATEST = AttributeView("latest", "latest", "pay", ("a",), ("z",))
FEATURES = FeatureSet((MINUTE, LATEST))


def stream(lateness, *, nullable=False):
    fields = tuple(dataclasses.replace(f, name="z", nullable=nullable) if f.name == "y" else f for f in PAY.fields)
    return dataclasses.replace(PAY, fields=fields, lateness=lateness)


def started(folder, pay):
    """The system as it starts, and the reader of its features."""
    ctx = open_context(Settings(data=folder), "shop", Specs((pay, MINUTE, LATEST)), clock=FixedEventClock(NOW))
    views = OnlineViews(ctx, FEATURES.views)
    views.rebuild()
    return ctx, views, FeatureReader(ctx.online, ctx.namespace, FEATURES, ctx.specs, asking="pay")


def paid(number, at, z):
    return {name: value for name, value in payment(number, at).items() if name != "y"} | {"a": 0, "z": z}


def given(ctx, views, *rows):
    append(ctx, "pay", rows)
    apply(ctx, views, ("pay",))


def test_a_longer_lateness_counts_for_what_was_trimmed_before(tmp_path):
    ctx, views, reader = started(tmp_path, stream(10))
    for number, at in enumerate((30, 120, 121)):
        given(ctx, views, paid(number, at, 5))
    with pytest.raises(InvalidInput, match="lateness"):
        reader.read(paid(9, 65, 0), 65, None)
    ctx.close()
    ctx, views, reader = started(tmp_path, stream(1000))
    assert reader.read(paid(9, 65, 0), 65, None).values.tolist() == [1, 5, 5]
    given(ctx, views, paid(3, 40, 6))
    assert reader.read(paid(9, 65, 0), 65, None).values.tolist() == [2, 6, 6]
    ctx.close()


def test_a_field_that_may_be_null_from_now_on(tmp_path):
    ctx, views, reader = started(tmp_path, stream(1000))
    given(ctx, views, paid(0, 30, 5), paid(1, 31, 7))
    before = reader.read(paid(9, 65, 0), 65, None).values.tolist()
    ctx.close()
    ctx, views, reader = started(tmp_path, stream(1000, nullable=True))
    assert ctx.specs.get(StreamSpec, "pay").field("z").nullable
    assert reader.read(paid(9, 65, 0), 65, None).values.tolist() == before == [2, 7, 7]
    given(ctx, views, paid(2, 33, None))
    assert reader.read(paid(9, 65, 0), 65, None).values.tolist()[:2] == [3, 7]
    ctx.close()
