"""The chain behind a prediction, of a model that was really trained, registered and approved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from headrace.app.world import context
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.datasets import pin
from headrace.data.types import StreamSpec
from headrace.engines.open import prepare_data_folder
from headrace.features.training_set import training_set
from headrace.governance.predictions import logged
from headrace.governance.why import why
from headrace.kernel.errors import NotFound
from headrace.kernel.identity import Principal, Role
from headrace.kernel.times import DAY, HOUR, MINUTE, format_time, parse_time
from headrace.ledger.merkle import leaf_hash, root_of_inclusion
from headrace.registry.versions import approve, register
from headrace.release.deployments import deploy
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.types import PredictionRecord, RouteTable, ServiceSpec
from headrace.training.training import train
from headrace.training.types import ModelSpec

START = parse_time("2026-01-05T00:00:00Z")
VISITS = 12_000
END = START + VISITS * MINUTE
KEEPER = Principal("k1", "Ada", Role.OPERATOR)
LATER = Principal("k2", "Bob", Role.OPERATOR)


def fill(ctx) -> None:
    """One visit a minute of 40 customers on 10 pages; every third ends in a purchase half a day later."""
    at = START + np.arange(VISITS) * MINUTE
    visits = [{"visit_id": i, "at": format_time(int(t)), "customer": f"c{i % 40}", "page": i % 10} for i, t in enumerate(at)]
    bought = [{"visit_id": i, "at": format_time(int(t) + 12 * HOUR)} for i, t in enumerate(at) if i % 3 == 0]
    for stream, rows in (("visit", visits), ("purchase", bought)):
        append_raw(ctx, stream, [msgspec.json.encode(row) for row in rows], history=True)
        applier = StreamApplier(ctx, ctx.specs.get(StreamSpec, stream), [])
        while applier.step():
            pass


@pytest.fixture(scope="module")
def ctx(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    prepare_data_folder(folder / "data")
    file = Path(__file__).with_name("explained_system.py")
    ctx = context({"data": str(folder / "data"), "system": "shop", "file": str(file), "clock": "virtual"})
    ctx = replace(ctx, settings=replace(ctx.settings, signing_key=str(folder / "signing.key")))
    ctx.clock.set(END + 2 * DAY)
    fill(ctx)
    yield ctx
    ctx.compute.close()


def logged_record(**changed) -> PredictionRecord:
    values = {
        "format": 1, "id": "shop-1", "request_key": "", "request_hash": "", "at": END, "machine_at": 1,
        "service": "scoring", "version": 1, "role": "champion", "entity": "c7", "sticky": True, "own_id": "99999",
        "request": {"visit_id": 99999, "at": END, "customer": "c7", "page": 3}, "features": [3.0, 37.0, float("nan")],
        "positions": {"customer": {"visit": VISITS - 1}, "page": {"visit": VISITS - 1, "purchase": 3999}},
        "score": 0.25, "error": None, "latency_us": 900, "rollout": "r1", "generation": 4,
    }  # fmt: skip
    return PredictionRecord(**{**values, **changed})


def released(ctx, number: int) -> int:
    """The generation of a new deployment of the version."""
    with ctx.catalog.transaction() as connection:
        table = RouteTable("scoring", 0, number)
        return deploy(connection, ctx, table, step=None, reason="released", at=ctx.clock.now())


def test_the_whole_chain_is_told_and_proved(ctx):
    model = ctx.specs.get(ModelSpec, "buys")
    rows = training_set(ctx, model, start=START, end=END, known_at=END + 2 * DAY)
    dataset = pin(ctx, "buys", rows, inputs={})
    run = train(ctx, "buys", dataset.ref)
    number = register(ctx, "buys", run=run.id).number
    approve(ctx.acting(KEEPER), "buys", number, "good enough")
    generation = released(ctx, number)
    approve(ctx.acting(LATER), "buys", number, "seen too late, in the same instant of the clock")
    again = released(ctx, number)
    columns = ctx.specs.get(ServiceSpec, "scoring").model.features.columns
    assert columns == ("page", "customer_count_1d", "page_share_7d")
    log = PredictionLog(ctx.events, ctx.namespace.predictions("scoring"))
    log.append([
        logged_record(id="shop-0"),
        logged_record(version=2, role="canary", error="it failed", score=None, features=[]),
        logged_record(version=number, generation=generation),
        logged_record(version=2, role="shadow", score=0.9),
        logged_record(id="shop-2", version=number, generation=again),
    ])  # fmt: skip
    told = why(ctx, "shop-1")
    assert (told.version, told.alias, told.prediction["score"]) == (number, "champion", 0.25)
    assert (told.prediction["generation"], told.prediction["rollout"]) == (generation, "r1")
    assert (told.dataset_version, told.code, told.approved_by) == (dataset.ref, run.code_hash, "Ada")
    assert why(ctx, "shop-2").approved_by == "Bob", "the next deployment came after his approval"
    newest = max(i for i in range(VISITS) if i % 40 == 7)
    page = max(i for i in range(VISITS) if i % 10 == 3 and START + i * MINUTE <= END - DAY)
    assert [(f.name, f.value, f.age_s) for f in told.features] == [
        ("page", 3.0, 0.0),
        ("customer_count_1d", 37.0, (VISITS - newest) * 60.0),
        ("page_share_7d", None, (VISITS - page) * 60.0),
    ]
    record = told.proof.record
    assert record is not None and record.offset == 2
    value = ctx.events.read(ctx.namespace.predictions("scoring"), 0, 2, max_records=1).values[0]
    digest = root_of_inclusion(leaf_hash(value), record.index, record.size, [bytes.fromhex(h) for h in record.proof])
    assert digest is not None and digest.hex() in told.proof.entry


def test_the_label_is_null_until_its_horizon_is_over(ctx):
    log = PredictionLog(ctx.events, ctx.namespace.predictions("scoring"))
    bought, not_bought = VISITS - 3, VISITS - 2
    assert bought % 3 == 0
    for name, visit, at in (("yes", bought, END), ("no", not_bought, END), ("early", bought, END + 2 * DAY)):
        request = {"visit_id": visit, "at": at, "customer": "c7", "page": 3}
        log.append([logged_record(id=f"shop-{name}", at=START + visit * MINUTE if name != "early" else at, request=request)])
    assert [why(ctx, f"shop-{name}").label for name in ("yes", "no", "early")] == [True, False, None]


def test_the_age_is_that_of_the_event_before_the_asking_one(ctx):
    """The payment itself is in the stream by now, at a position that the view had applied."""
    visit = VISITS - 1
    at = START + visit * MINUTE
    request = {"visit_id": visit, "at": at, "customer": f"c{visit % 40}", "page": visit % 10}
    log = PredictionLog(ctx.events, ctx.namespace.predictions("scoring"))
    log.append([logged_record(id="shop-own", at=at, own_id=str(visit), request=request)])
    ages = {feature.name: feature.age_s for feature in why(ctx, "shop-own").features}
    assert ages["customer_count_1d"] == 40 * 60.0


def test_a_shadow_or_a_failed_attempt_never_stands_for_the_answer(ctx):
    log = PredictionLog(ctx.events, ctx.namespace.predictions("scoring"))
    failed = {"error": "it failed", "score": None}
    log.append([logged_record(id="shop-a", score=0.5), logged_record(id="shop-a", **failed)])
    log.append([
        logged_record(id="shop-f", role="canary", **failed),
        logged_record(id="shop-f", **failed),
        logged_record(id="shop-f", role="shadow", score=0.9),
    ])  # fmt: skip
    answered, unanswered = logged(ctx, "shop-a"), logged(ctx, "shop-f")
    assert answered is not None and answered.record.score == 0.5
    assert unanswered is not None and (unanswered.record.role, unanswered.record.score) == ("champion", None)


def test_an_unknown_prediction_is_not_found(ctx):
    with pytest.raises(NotFound, match="shop-77"):
        why(ctx, "shop-77")
