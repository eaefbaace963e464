"""Numbers that no store holds, nesting that no reader follows, and broken bodies: each is refused, none is a failure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from running import Running, order, write_system

from headrace.app.arguments import parameters, typed
from headrace.app.operations import OPERATIONS
from headrace.kernel.errors import InvalidInput

HUGE = "9" * 20
DEEP = b"[" * 100_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shop")
    with Running(folder / "data", "--clock", "virtual", file=write_system(folder)) as run:
        yield run


@pytest.mark.parametrize(
    ("door", "body", "field"),
    [
        (f"GET /api/v1/alarms?limit={HUGE}", None, "limit"),
        ("GET /api/v1/alarms?limit=-1", None, "limit"),
        (f"GET /api/v1/drift/score/cohorts?days={HUGE[:18]}", None, "days"),
        ("GET /api/v1/drift/score/cohorts?days=0", None, "days"),
        ("GET /api/v1/settled?timeout=nan", None, "timeout"),
        ("GET /api/v1/settled?timeout=inf", None, "timeout"),
        ("GET /api/v1/settled?timeout=-1", None, "timeout"),
        (f"GET /api/v1/registry/silent/versions/{HUGE}", None, "version"),
        (f"GET /api/v1/streams/order/quarantine?after={HUGE}", None, "after"),
        (f"GET /models/silent/{HUGE}", None, "number"),
        ("POST /api/v1/rollouts", f'{{"service":"score","version":{HUGE}}}', "version"),
        ("POST /api/v1/rollouts", f'{{"service":"score","version":1,"policy":{{"minimum_requests":{HUGE}}}}}', "policy"),
        ("POST /api/v1/rollouts", '{"service":"score","version":1,"policy":{"alpha":NaN}}', "policy"),
        ("POST /api/v1/rollouts", f'{{"service":"score","version":1,"policy":{{"steps":{"[" * 400 + "]" * 400}}}}}', "policy"),
        ("POST /api/v1/training", f'{{"model":"silent","from":"a","to":"b","seed":{HUGE}}}', "seed"),
        ("POST /api/v1/training", '{"model":"silent","from":"a","to":"b","seed":-1}', "seed"),
        ("POST /api/v1/training", '{"model":"silent","from":"a","to":"b","trials":-1}', "trials"),
        ("POST /api/v1/training", f'{{"model":{"[" * 900 + "]" * 900},"from":"a","to":"b"}}', "model"),
        ("POST /api/v1/datasets/vacuum", f'{{"hours":{HUGE[:18]}}}', "hours"),
        ("POST /api/v1/clock", '{"now":"2030-01-01T00:00:00Z","nwo":1}', "nwo"),
    ],
)
def test_an_argument_out_of_bounds_is_named(shop: Running, door: str, body: str | None, field: str) -> None:
    method, _, path = door.partition(" ")
    status, answer, _ = shop.ask(method, path, None if body is None else body.encode())
    assert (status, answer["error"]["code"], answer["error"]["field"]) == (400, "invalid_input", field)
    assert len(answer["error"]["message"]) < 400


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (("alarms", "list", "--limit", HUGE), "limit"),
        (("registry", "show", "silent", HUGE), "version"),
        (("train", "silent", "--from", "a", "--to", "b", "--seed", "-1"), "seed"),
        (("settled", "--timeout", "nan"), "timeout"),
    ],
)
def test_a_command_refuses_the_same_with_and_without_a_url(shop: Running, command: tuple[str, ...], field: str) -> None:
    for more in ((), ("--url", f"http://127.0.0.1:{shop.port}")):
        code, answer = shop.command(*command, *more)
        assert (code, answer["error"]["code"], answer["error"]["field"]) == (3, "invalid_input", field)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400])
def test_no_operation_is_given_an_integer_beyond_64_bits(value: int) -> None:
    asked = 0
    for operation in OPERATIONS.values():
        for parameter in parameters(operation):
            if parameter.kind == "int":
                needed = {p.name: "1" for p in parameters(operation) if p.required}
                with pytest.raises(InvalidInput, match=f"`{parameter.public}`"):
                    typed(operation, {parameter.name: value, **{k: v for k, v in needed.items() if k != parameter.name}})
                asked += 1
    assert asked >= 8


def test_bounds_are_in_the_document_of_the_api(shop: Running) -> None:
    document = shop.ask("GET", "/openapi.json")[1]
    (limit,) = (p for p in document["paths"]["/api/v1/alarms"]["get"]["parameters"] if p["name"] == "limit")
    assert limit["schema"]["minimum"] == 1
    seed = document["components"]["schemas"]["TrainingTrain"]["properties"]["seed"]
    assert (seed["minimum"], seed["maximum"]) == (0, 2**32 - 1)


def test_deep_nesting_is_refused_as_an_array_and_quarantined_as_an_event(shop: Running) -> None:
    status, answer, _ = shop.ask("POST", "/streams/order/events", DEEP)
    assert (status, answer["error"]["code"]) == (400, "invalid_input")
    deep_member = b'{"order_id":' + DEEP
    lines = msgspec.json.encode(order(1)) + b"\n" + DEEP
    for body, kind in ((deep_member, "application/json"), (DEEP, "application/x-ndjson"), (lines, "application/x-ndjson")):
        assert shop.ask("POST", "/streams/order/events", body, Content_Type=kind)[0] == 200
    assert shop.ask("GET", "/api/v1/settled?timeout=20")[0] == 200
    refused = shop.ask("GET", "/api/v1/streams/order/quarantine?reason=not JSON".replace(" ", "%20"))[1]
    assert [entry["offset"] for entry in refused] == [0, 1, 3]
    for path in ("/services/score/predict", "/services/score/predict/batch", "/predict", "/api/v1/rollouts", "/api/v1/clock"):
        for body in (DEEP, b'{"now":' + b"[" * 980 + b"]" * 980 + b"}"):
            status, answer, _ = shop.ask("POST", path, body)
            assert (status, answer["error"]["code"]) == (400, "invalid_input"), path


@pytest.mark.parametrize("body", [b"{", b"nothing", b'{"now" "2030"}', b'{"now":"\xff"}'])
def test_a_body_that_is_no_json_is_told_so(shop: Running, body: bytes) -> None:
    for path in ("/api/v1/rollouts", "/api/v1/clock"):
        status, answer, _ = shop.ask("POST", path, body)
        assert (status, answer["error"]["code"]) == (400, "invalid_input")
        assert "field" not in answer["error"] and "`0`" not in answer["error"]["message"]
        assert "JSON" in answer["error"]["message"] or "body" in answer["error"]["message"]


def test_every_route_is_in_the_document_and_on_the_page(shop: Running) -> None:
    paths = shop.ask("GET", "/openapi.json")[1]["paths"]
    page = shop.ask("GET", "/docs")[1]
    listed = {"/predict", "/services/score/predict", "/health/live", "/health/ready", "/", "/docs", "/openapi.json", "/metrics"}
    assert listed <= set(paths)
    assert all(f"</b> {path}</td>" in page for path in paths)
    status, answer, _ = shop.ask("POST", "/predict", b'{"input":[1.5,2]}')
    assert (status, answer["error"]["code"]) == (503, "not_ready"), "what is listed is there"
