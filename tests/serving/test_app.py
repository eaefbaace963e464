"""The prediction app through its HTTP door."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from serving_world import (
    FEATURES,
    SPECS,
    constant_model,
    half_broken_model,
    linear_model,
    order,
    release,
    service,
    serving,
    taken_over,
    wait_until,
)

from headrace.kernel.errors import Unauthenticated
from headrace.kernel.identity import Principal, Role
from headrace.registry.runtimes import load_runtime
from headrace.serving.reading import prediction_records, read_cells
from headrace.serving.router import bucket
from headrace.serving.routes import acknowledgements
from headrace.serving.types import PredictionRecord

WEIGHTS = [0.01, -0.02, 0.3, 0.2, 0.001, 0.002]
MODEL = linear_model(WEIGHTS)


def logged(ctx: Any) -> list[PredictionRecord]:
    return [record for _, record in prediction_records(ctx, service.name)]


def test_a_prediction_is_answered_and_logged_with_its_features(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 3)
    with serving(ctx, {3: MODEL}) as client:
        status, answer = client.predict(order(7, amount=12.5))
        assert status == 200
        identifier = "shop-" + blake2b(b"quiet\x007", digest_size=16).hexdigest()
        (record,) = logged(ctx)  # it is in the log before the reply
    features = dict(zip(FEATURES, record.features, strict=True))
    assert features["amount"] == 12.5 and features["twice"] == 25.0
    assert features["customer_count_7d"] == 1.0 and features["customer_sum_1d"] == 12.5
    expected = load_runtime("onnx", MODEL).score(np.array([record.features]))[0]
    assert answer == {
        "score": expected, "prediction_id": identifier, "service": "quiet", "version": 3, "sticky": True,
    }  # fmt: skip
    assert record.id == identifier and record.role == "champion" and record.score == expected
    assert record.positions == {"customer": {"order": -1}} and record.own_id == "7"


def test_a_retry_is_the_same_prediction_and_other_content_a_conflict(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        first = client.predict(order(7))
        assert client.predict(order(7)) == first
        status, body = client.predict(order(7, amount=11))
        assert (status, body["error"]["code"]) == (409, "conflict")
        keyed = client.predict(order(8), idempotency_key="once")
        assert client.predict(order(8), idempotency_key="once") == keyed
        assert client.predict(order(9), idempotency_key="once")[0] == 409
    assert len(logged(ctx)) == 2
    with serving(ctx, {1: MODEL}) as client:  # a new process knows them from the log
        assert client.predict(order(7)) == first
        assert client.predict(order(8), idempotency_key="once") == keyed
    assert len(logged(ctx)) == 2


def test_bad_requests_name_the_field_and_log_nothing(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        for body, field in (({**order(1), "extra": 1}, "extra"), ({**order(1), "amount": "x"}, "amount")):
            status, answer = client.predict(body)
            assert status == 400
            assert answer["error"]["code"] == "invalid_input" and answer["error"]["field"] == field
            assert answer["error"]["hint"]
        status, answer = client.predict(b"x" * ((1 << 20) + 1))
        assert (status, answer["error"]["code"]) == (413, "too_large")
        client.connection.close()
        assert client.predict(order(1), idempotency_key="k" * 256)[0] == 400
        status, answer = client.request("POST", "/services/other/predict", order(1))
        assert status == 404 and "`quiet`" in answer["error"]["message"]
        assert client.request("POST", "/services/quiet/other", order(1))[0] == 404
        assert client.request("GET", "/services/quiet/predict")[0] == 405
        assert client.request("GET", "/nowhere")[0] == 404
    assert logged(ctx) == []


def test_a_query_argument_is_refused_by_name(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        for path, body in (
            ("/services/quiet/predict", order(1)),
            ("/services/quiet/predict/batch", {"rows": [order(1)]}),
            ("/predict", {"input": [1.0] * len(FEATURES)}),
        ):
            for query, name in (
                ("explain=true", "explain"),
                ("versoin=3&x=1", "versoin"),
                ("dry", "dry"),
                ("%F0%9F=1", "\ufffd"),
            ):
                status, answer = client.request("POST", f"{path}?{query}", body)
                error = answer["error"]
                assert (status, error["code"], error["field"]) == (400, "invalid_input", name)
                assert f"`{name}`" in error["message"] and "allowed: none" in error["message"] and error["hint"]
                assert ("headrace why" in error["hint"]) == (name == "explain")
            assert logged(ctx) == []
        assert client.request("POST", "/services/quiet/predict?", order(1))[0] == 200


def test_a_chunked_body_over_the_limit_is_refused_while_it_arrives(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client, socket.create_connection((client.host, client.port), 5) as raw:
        head = b"POST /services/quiet/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        raw.sendall(head + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17 + b"0\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_the_batch_route_checks_all_rows_before_it_predicts(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        rows = [order(n, amount=n) for n in range(70)]
        status, answer = client.request("POST", "/services/quiet/predict/batch", {"rows": rows})
        assert status == 200 and len(answer["predictions"]) == 70
        single = client.predict(order(33, amount=33))[1]
        assert answer["predictions"][33] == single
        bad = [*rows[:2], {**order(99), "amount": -1}]
        status, answer = client.request("POST", "/services/quiet/predict/batch", {"rows": bad})
        assert (status, answer["error"]["field"]) == (400, "rows[2].amount")
        assert client.request("POST", "/services/quiet/predict/batch", {"row": []})[0] == 400
        keyed = client.request("POST", "/services/quiet/predict/batch", {"rows": rows[:3]}, idempotency_key="b")
        assert client.request("POST", "/services/quiet/predict/batch", {"rows": rows[:3]}, idempotency_key="b") == keyed
    assert len(logged(ctx)) == 73


def test_the_guides_form_takes_whole_feature_rows(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}) as client:
        row = [10.0, 20.0, 1, None, 10.0, 10.0]
        status, answer = client.request("POST", "/predict", {"input": row})
        filled = np.array([[np.nan if v is None else v for v in row]])
        assert status == 200 and len(answer["result"]) == 1
        status, answer = client.request("POST", "/predict", {"input": [[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]]})
        assert answer["result"][1] == 0.5 and len(answer["result"]) == 2
        status, answer = client.request("POST", "/predict", {"input": [1, 2]})
        assert status == 400 and "6 numbers: amount, twice" in answer["error"]["message"]
    records = logged(ctx)
    assert [(r.sticky, r.request, r.positions) for r in records] == [(False, {}, {})] * 3
    assert np.array_equal(np.array([records[0].features]), filled, equal_nan=True)


def test_a_failing_canary_is_logged_and_the_champion_answers(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1, challenger=2, weight=0.5, salt="r1", rollout="r1")
    customers = [f"c{n}" for n in range(60)]
    mine = {c for c in customers if bucket("r1", c) < 0.5}
    with serving(ctx, {1: constant_model(0.25), 2: half_broken_model()}) as client:
        answers = {}
        for n, customer in enumerate(customers):
            status, answers[customer] = client.predict(order(n, customer=customer, amount=20 if n % 2 else 30))
            assert status == 200
    for n, customer in enumerate(customers):
        served = customer in mine and n % 2 == 0
        assert answers[customer]["version"] == (2 if served else 1)
        assert answers[customer]["score"] == (0.5 if served else 0.25)
    records = logged(ctx)
    failed = [r for r in records if r.error is not None]
    assert {r.entity for r in failed} == {c for n, c in enumerate(customers) if c in mine and n % 2}
    assert all((r.role, r.version, r.score, r.rollout) == ("canary", 2, None, "r1") for r in failed)
    assert sum(r.role == "champion" for r in records) == 60 - sum(n % 2 == 0 for n, c in enumerate(customers) if c in mine)
    for place, record in enumerate(records):
        if record.error is not None:
            assert records[place + 1].id == record.id and records[place + 1].role == "champion"
    cells, _ = read_cells(ctx, service.name, 0, 10**6)
    assert sum(c.errors for (v, role, _), c in cells.items() if role == "canary") == len(failed)
    assert sum(c.count for c in cells.values()) == len(records)


def test_a_failing_champion_is_an_error_and_is_logged(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: half_broken_model()}) as client:
        status, answer = client.predict(order(1, amount=10))
        assert status == 500
        assert "outside [0, 1]" in answer["error"]["message"]
        assert client.predict(order(2, amount=30))[0] == 200
        assert client.predict(order(1, amount=10))[0] == 500  # a failure is no answer: the retry asks again
    assert [r.error is None for r in logged(ctx)] == [False, True, False]


def test_shadows_score_the_same_features_after_the_reply(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1, shadows=(2, 3), rollout="r1")
    with serving(ctx, {1: constant_model(0.25), 2: constant_model(0.75), 3: half_broken_model()}) as client:
        for n in range(40):
            assert client.predict(order(n, amount=20))[1]["version"] == 1
    records = logged(ctx)
    live = {r.id: r for r in records if r.role == "champion"}
    shadows = [r for r in records if r.role == "shadow"]
    assert len(live) == 40 and len(shadows) == 80
    for shadow in shadows:
        assert shadow.features == live[shadow.id].features and shadow.positions == live[shadow.id].positions
        assert (shadow.score, shadow.error is None) == ((0.75, True) if shadow.version == 2 else (None, False))


def test_callers_are_authenticated_and_authorised(make_context: Any) -> None:
    keys = {b"good": Principal("1", "app", Role.SERVICE), b"viewer": Principal("2", "eyes", Role.VIEWER)}

    def authenticate(headers: Mapping[bytes, bytes]) -> Principal:
        name = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if name not in keys:
            raise Unauthenticated("this door needs an API key", hint="send one")
        return keys[name]

    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: MODEL}, authenticate=authenticate) as client:
        for path in ("/services/quiet/predict", "/services/quiet/predict/batch", "/predict"):
            status, answer = client.request("POST", path, {})
            assert (status, answer["error"]["code"]) == (401, "unauthenticated")
            status, answer = client.request("POST", path, {}, authorization="Bearer viewer")
            assert (status, answer["error"]["code"]) == (403, "denied")
            assert client.request("POST", path, {}, authorization="Bearer good")[0] == 400
        assert client.predict(order(1), authorization="Bearer good")[0] == 200
        assert client.request("GET", "/health/ready")[0] == 200  # health needs no key


def test_without_a_release_the_service_says_how_to_go_on(make_context: Any) -> None:
    ctx = make_context(SPECS)
    with serving(ctx, {1: MODEL}) as client:
        status, answer = client.predict(order(1))
        assert (status, answer["error"]["code"]) == (503, "not_ready")
        assert "rollout start quiet" in answer["error"]["hint"]
        taken_over(ctx, release(ctx, 1))
        assert client.predict(order(1))[0] == 200


def test_a_version_that_cannot_be_loaded_is_acknowledged_as_failed(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: constant_model(0.25), 2: b"no model"}) as client:
        table = release(ctx, 1, challenger=2, weight=1.0, salt="s")
        wait_until(lambda: any(2 in ack.failed for ack in acknowledgements(ctx, service.name).values()))
        ack = acknowledgements(ctx, service.name)["serve"]
        assert ack.generation == table.generation and ack.ready == (1,)
        assert client.predict(order(1))[1]["version"] == 1
        assert client.predict(order(1))[1]["sticky"]


def test_an_unloadable_champion_leaves_the_old_one_serving(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 1)
    with serving(ctx, {1: constant_model(0.25), 2: b"no model"}) as client:
        table = release(ctx, 2)
        wait_until(lambda: any(a.generation == table.generation for a in acknowledgements(ctx, service.name).values()))
        assert client.predict(order(1))[1]["version"] == 1


def test_health_says_not_ready_until_the_champion_is_loaded(make_context: Any) -> None:
    ctx = make_context(SPECS)
    release(ctx, 2)
    with serving(ctx, {2: b"no model"}, ready=lambda: True) as client:
        assert client.request("GET", "/health/live") == (200, {"live": True})
        wait_until(lambda: bool(acknowledgements(ctx, service.name)))
        assert client.request("GET", "/health/ready") == (503, {"ready": False, "draining": False})


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_an_empty_platform_is_ready(make_context: Any, path: str) -> None:
    from headrace.kernel.specs import Specs

    with serving(make_context(Specs()), {}) as client:
        assert client.request("GET", path)[0] == 200
        status, answer = client.request("POST", "/predict", json.dumps({"input": [1]}).encode())
        assert status == 404 and "known: none" in answer["error"]["message"]
