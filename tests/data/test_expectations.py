"""Rules over whole events, over several, and over a stream; warnings; and what is kept of each batch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import NOW, MakeContext
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_world import LATE, ORDER, Faults, Killed, apply_all, dying, event

from headrace.app.metrics import render_metrics
from headrace.app.pages.rendering import page
from headrace.app.status import status
from headrace.data.appending import append_raw
from headrace.data.contract import contract_of
from headrace.data.contract_results import KEPT, broken_lately, record, report
from headrace.data.history import history, log_history
from headrace.data.quarantine import entries
from headrace.data.stream_checks import judge_streams
from headrace.data.types import Check, Field, Fresh, NotNull, OneOf, Range, StreamSpec, Unique, Violation, Volume
from headrace.engines.context import Context
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.specs import Specs
from headrace.kernel.times import DAY, HOUR, format_time, parse_time


def _even(amount: np.ndarray) -> np.ndarray:
    return amount % 2 == 0


def _fails_on_seven(customer: np.ndarray, color: np.ndarray) -> np.ndarray:
    assert not (customer == 7).any()
    return np.asarray([text != "red" for text in color])


def _spec(*expect: Any, **fields: Field) -> StreamSpec:
    return replace(ORDER, fields=tuple(fields.get(f.name, f) for f in ORDER.fields), expect=expect)


RULED = _spec(
    Check("even", _even, "warn"),
    Check("not_red", _fails_on_seven),
    amount=Field("amount", "float", rules=(Range(min=0), Range(max=10, severity="warn"))),
    color=Field("color", "str", True, (OneOf(("red", "blue", "odd")), OneOf(("red", "blue"), severity="warn"), NotNull())),
)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([-1.0, 0.0, 1.0, 2.0, 11.0]), st.integers(6, 8), st.sampled_from([None, "red", "blue", "odd", "x"])
        ),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_one_event_and_a_batch_are_refused_and_warned_of_alike(rows: list[tuple[float, int, str | None]]) -> None:
    contract = contract_of(RULED)
    values = [event(str(n), amount=amount, customer=customer, color=color) for n, (amount, customer, color) in enumerate(rows)]
    frame, refused = contract.decode_batch(values, NOW)
    reasons, warned = dict(refused), dict.fromkeys(contract.warnings(frame), 0)
    documents = [{"id": str(n), "at": "2026-01-30", "amount": a, "customer": c, "color": k} for n, (a, c, k) in enumerate(rows)]
    typed = pl.DataFrame(documents, schema_overrides={"color": pl.String})
    checked = {row["_index"]: row["reason"] for row in contract.check_frame(typed, NOW).to_dicts()}
    for place, (amount, customer, color) in enumerate(rows):
        one = contract.decode(values[place], NOW)
        bad = amount < 0 or color == "x" or (color is not None and (color == "red" or customer == 7))
        assert isinstance(one, Violation) == bad
        if isinstance(one, Violation):
            assert (reasons[place], checked[place]) == (one, one.reason)
            continue
        assert place not in reasons
        assert place not in checked
        expected = [
            ("amount.range", amount > 10),
            ("color.set", color == "odd"),
            ("color.null", color is None),
            ("even", amount % 2 == 1),
        ]
        alone = contract.warnings(frame.filter(pl.col("_index") == place))
        assert [rule for rule, count in alone.items() if count] == [rule for rule, fails in expected if fails]
        warned = {rule: count + alone[rule] for rule, count in warned.items()}
    assert contract.warnings(frame) == warned


def test_what_did_not_hold_is_kept_for_each_batch(make_context: MakeContext) -> None:
    ctx = make_context(Specs([RULED]))
    batches = [
        [event("a", amount=2, color="blue")],
        [event("b", amount=12, color="blue"), event("c", amount=-2), b"nonsense", event("d", amount=1, color="odd")],
        [event("e", amount=2, color="red"), event("a", amount=4)],
    ]
    append_raw(ctx, "order", [value for batch in batches for value in batch][:1])
    apply_all(ctx, spec=RULED)
    for batch in batches[1:]:
        append_raw(ctx, "order", batch)
        apply_all(ctx, spec=RULED)
    found = report(ctx, "order")
    assert [(b.first, b.events, b.rule, b.severity, b.failed) for b in found.batches] == [
        (5, 2, "id.identity", "quarantine", 1),
        (5, 2, "not_red", "quarantine", 1),
        (1, 4, "amount.range", "quarantine", 1),
        (1, 4, "amount.range", "warn", 1),
        (1, 4, "color.set", "warn", 1),
        (1, 4, "even", "warn", 1),
        (1, 4, "json", "quarantine", 1),
    ]
    assert {(r.rule, r.severity): r.failed for r in found.rules} == {(b.rule, b.severity): b.failed for b in found.batches}


def test_results_of_old_batches_are_summed(make_context: MakeContext) -> None:
    clock = FixedEventClock(NOW)
    ctx = make_context(Specs([ORDER]), clock=clock)
    for batch in range(KEPT + 5):
        clock.set(NOW + batch)
        record(ctx, "order", batch, 10, {}, {"a.range": 2, "b.set": 0})
    assert [(r.rule, r.failed) for r in report(ctx, "order").rules] == [("a.range", 2 * (KEPT + 5))]
    record(ctx, "order", KEPT + 4, 10, {}, {"a.range": 3})
    assert report(ctx, "order").rules[0].failed == 2 * (KEPT + 4) + 3, "a batch that is applied again replaces its result"


UNIQUE = _spec(Unique(("customer", "amount"), HOUR))


def _at(minutes: int) -> str:
    return format_time(parse_time("2026-01-30T10:00:00Z") + minutes * 60_000_000)


EVENTS = [(0, 1, 1.0), (59, 1, 1.0), (60, 1, 1.0), (59, 2, 1.0), (0, 1, 2.0), (30, 2, 1.0), (-10, 1, 1.0), (-60, 1, 1.0)]
"""Minute, customer and amount; refused are those less than an hour from an accepted one before them."""
REFUSED = ["1", "5", "6"]


def _append_events(ctx: Context) -> None:
    append_raw(ctx, "order", [event(str(n), at=_at(m), customer=c, amount=a) for n, (m, c, a) in enumerate(EVENTS)])


def test_the_same_values_within_the_horizon_are_refused(make_context: MakeContext) -> None:
    for size in (1, 3, 100):
        ctx = make_context(Specs([UNIQUE]), system=f"s{size}")
        _append_events(ctx)
        apply_all(ctx, spec=UNIQUE, max_records=size)
        assert [entry.id for entry in entries(ctx, "order")] == REFUSED
        assert entries(ctx, "order")[0].reason == "the same values came before within the horizon"
        assert log_history(ctx, "order").equals(history(ctx, "order"))


def test_a_rule_of_uniqueness_that_warns_counts(make_context: MakeContext) -> None:
    spec = _spec(Unique(("customer", "amount"), HOUR, "warn"))
    ctx = make_context(Specs([spec]))
    _append_events(ctx)
    apply_all(ctx, spec=spec)
    assert entries(ctx, "order") == []
    assert [(r.rule, r.failed) for r in report(ctx, "order").rules] == [("unique:customer,amount", 5)]


@pytest.mark.parametrize("at", range(30))
def test_a_step_killed_anywhere_refuses_the_same(make_context: MakeContext, at: int) -> None:
    _append_events(make_context(Specs([UNIQUE])))
    with suppress(Killed):
        apply_all(dying(make_context(Specs([UNIQUE])), Faults(at)), spec=UNIQUE, max_records=5)
    ctx = make_context(Specs([UNIQUE]))
    apply_all(ctx, spec=UNIQUE, max_records=3)
    assert [entry.id for entry in entries(ctx, "order")] == REFUSED
    assert history(ctx, "order").height == len(EVENTS) - len(REFUSED)
    assert report(ctx, "order").rules[0].failed == len(REFUSED)


def test_the_index_is_built_again_after_the_online_store_was_lost(make_context: MakeContext) -> None:
    ctx = make_context(Specs([UNIQUE]))
    _append_events(ctx)
    apply_all(ctx, spec=UNIQUE)
    for key, _ in list(ctx.online.scan(b"shop/")):
        ctx.online.write({key: None})
    append_raw(ctx, "order", [event("later", at=_at(119), amount=1, customer=1), event("much", at=_at(180), amount=1)])
    apply_all(ctx, spec=UNIQUE)
    assert [entry.id for entry in entries(ctx, "order")] == [*REFUSED, "later"]


def test_a_stream_is_judged_by_its_age_and_its_usual_volume(make_context: MakeContext) -> None:
    spec = _spec(Fresh(HOUR), Volume(DAY, 0.5, 2.0, 5))
    clock = FixedEventClock(parse_time("2026-01-05T00:00:00Z"))
    ctx = make_context(Specs([spec]), clock=clock)
    judge_streams(ctx)
    assert [(c.rule, c.good) for c in report(ctx, "order").checks] == [("fresh", None), ("volume", None)]
    counts = [4, 4, 6, 4, 1, 9]
    for day, count in enumerate(counts):
        clock.set(parse_time(f"2026-01-{10 + day}T23:00:00Z"))
        append_raw(ctx, "order", [event(f"{day}-{n}", at=f"2026-01-{10 + day}T22:30:00Z") for n in range(count)])
        apply_all(ctx, spec=spec)
        judge_streams(ctx)
        (fresh, volume) = report(ctx, "order").checks
        assert fresh.good is True
        clock.set(parse_time(f"2026-01-{11 + day}T01:00:00Z"))
        judge_streams(ctx)
        (fresh, volume) = report(ctx, "order").checks
        assert (fresh.good, fresh.since) == (False, format_time(clock.now()))
        assert volume.good is (None, None, None, True, False, False)[day]
    assert volume.found == "9 events from 2026-01-15T00:00:00Z"
    assert volume.allowed == "2 to 8"


def test_what_did_not_hold_in_the_last_day_is_in_the_status(make_context: MakeContext) -> None:
    spec = _spec(Fresh(HOUR))
    clock = FixedEventClock(NOW)
    ctx = make_context(Specs([spec]), clock=clock)
    append_raw(ctx, "order", [event("old", at=LATE), event("negative", at=LATE, amount=-1)])
    apply_all(ctx, spec=spec)
    judge_streams(ctx)
    assert [(r.stream, r.rule, r.severity, r.failed, r.found) for r in broken_lately(ctx)] == [
        ("order", "amount.range", "quarantine", 1, "1 refused"),
        ("order", "fresh", "warn", None, broken_lately(ctx)[-1].found),
    ]
    assert broken_lately(ctx)[-1].found.endswith("allowed: at most 3600 s old")
    text = page("status.html", system=ctx.system, status=status(ctx), problems={}).body
    assert b"1 refused" in text
    assert b"3600 s old" in text
    metrics = render_metrics(ctx, [])[0].decode().splitlines()
    labels = 'rule="amount.range",severity="quarantine",stream="order",system="shop"'
    assert f"headrace_contract_failures_total{{{labels}}} 1.0" in metrics
    assert 'headrace_stream_check_good{rule="fresh",stream="order",system="shop"} 0.0' in metrics
    clock.set(NOW + DAY + 1)
    assert [r.rule for r in broken_lately(ctx)] == ["fresh"]
    assert broken_lately(make_context(Specs([ORDER]), clock=clock)) == [], "a rule that is no longer declared is none"
