"""POST /features/NAME/read on a running system: the values that `features read` gives one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from running import Running, order, write_system

from headrace.app.cli import run_command

AT = "2024-01-01T06:00:00Z"
NAMED = """
named = system.windows(Order, by="customer", over=["1d"], name="named", most=hr.max("total"), who=hr.last("customer"))


@system.stream(id="id", key="customer", time="at")
class Account:
    id: int
    customer: str
    at: datetime
    limit: float
    points: int | None
    active: bool | None
    opened: datetime | None


account = system.attributes(Account, by="customer", columns=["limit", "points", "active", "opened"], name="account")
seen = system.windows(Account, by="customer", over=["36500d"], name="seen", count=hr.count(), first=hr.first("points"))


@system.stream(id="id", key="id", time="at")
class Invoice:
    id: int
    at: datetime
    limit: int


@system.model(features=["limit"], label=hr.label(Invoice, on="id", within="1d"), spine=Account)
def worth(rows, labels):
    raise NotImplementedError("nobody trains it")
"""
KNOWN = {"limit": 2, "points": 3, "active": True, "opened": "2023-12-01T00:00:00.5Z"}
ACCOUNTS = [
    {"id": 1, "customer": "c0", "at": "2024-01-01T00:00:00Z"} | KNOWN,
    {"id": 2, "customer": "c1", "at": "2024-01-01T00:00:00Z", "limit": 2},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("shop")
    file = write_system(folder)
    file.write_text(file.read_text() + NAMED)
    with Running(folder / "data", file=file) as run:
        assert run.ask("POST", "/streams/order/events", "\n".join(json.dumps(order(n)) for n in range(5)).encode())[0] == 200
        assert run.ask("POST", "/streams/account/events", "\n".join(map(json.dumps, ACCOUNTS)).encode())[0] == 200
        deadline = time.monotonic() + 20
        while any(stream["lag"] for stream in run.ask("GET", "/api/v1/streams")[1]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield run


def read(run: Running, name: str, body: object) -> tuple[int, dict[str, object]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return run.ask("POST", f"/features/{name}/read", raw)[:2]


def test_many_requests_are_answered_as_each_alone(shop: Running) -> None:
    customers = ["c0", "c1", "c2", "c3", None]
    for name, more in (("recent", {}), ("silent", {"total": 2})):
        requests = [{"customer": customer, **more} for customer in customers]
        status, found = read(shop, name, {"requests": requests, "at": AT})
        assert status == 200
        assert (found["at"], found["age_s"]) == (AT, {"recent": [21600.0, 21600.0, 21600.0, None, None]})
        for request, values in zip(requests[:-1], found["values"], strict=False):
            fields = [f"{field}={value}" for field, value in request.items()]
            alone = shop.ask("POST", f"/api/v1/features/{name}/values", json.dumps({"field": fields, "at": AT}).encode())[1]
            assert dict(zip(found["columns"], values, strict=True)) == alone["values"]
        assert [row[-1] for row in found["values"]] == [2, 2, 1, 0, 0]
    assert read(shop, "recent", {"requests": []})[1]["values"] == []


@pytest.mark.parametrize(
    ("name", "body", "status", "text"),
    [
        ("recent", {"requests": [{"customer": "c0"}, {}]}, 400, "request 1: the request has no field `customer`"),
        ("recent", {"requests": [{"customer": 7}]}, 400, "request 0: `customer` is `str`, not `7`"),
        ("silent", {"requests": [{"customer": "c0", "total": True}]}, 400, "request 0: `total` is `float`, not `True`"),
        ("silent", {"requests": [{"customer": "c0", "total": 1 << 63}]}, 400, "Expected `int` <= 9223372036854775807"),
        ("recent", {"requests": [{"customer": "c0", "colour": 1}]}, 404, "field"),
        ("recent", {"requests": [{"customer": "c0"}] * 1001}, 400, "1001 requests; allowed: 1000"),
        ("recent", {"requests": [{"customer": ["c0"]}]}, 400, "the body is not"),
        ("recent", {"requests": [{"customer": "c0", "at": "then"}]}, 400, "then"),
        ("recent", {"request": []}, 400, "the body is not"),
        ("recent", b"[" * 100_000, 400, "the body is not"),
        ("nothing", {"requests": []}, 404, "/features/recent/read"),
    ],
)
def test_what_cannot_be_read_is_named(shop: Running, name: str, body: object, status: int, text: str) -> None:
    found, answer = read(shop, name, body)
    assert (found, text in json.dumps(answer)) == (status, True), answer


def test_the_fields_of_a_model_are_those_of_its_spine(shop: Running) -> None:
    """Another stream has a field of the same name that is a whole number."""
    assert read(shop, "worth", {"requests": [{"limit": 3.7}]})[1]["values"] == [[3.7]]
    assert shop.command("features", "read", "worth", "limit=3.7")[1]["values"] == {"limit": 3.7}


def test_only_a_post_reads(shop: Running) -> None:
    assert shop.ask("GET", "/features/recent/read")[0] == 405


def test_texts_are_read_beside_numbers(shop: Running) -> None:
    status, found = read(shop, "named", {"requests": [{"customer": "c0"}, {"customer": "nobody"}], "at": AT})
    assert (status, found["columns"]) == (200, ["named_most_1d", "named_who_1d"])
    assert found["values"] == [[1.5, "c0"], [None, None]]
    told = shop.command("features", "read", "named", "customer=c0", "--at", AT)[1]
    assert told["values"] == {"named_most_1d": 1.5, "named_who_1d": "c0"}


def test_the_list_for_people_has_what_fits_a_line(shop: Running, capsys: pytest.CaptureFixture[str]) -> None:
    found = shop.command("features", "list")[1]
    assert {view["name"]: view["over"] for view in found}["named"] == ["1d"]
    assert run_command(["features", "list", "--data", str(shop.data)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["name", "kind", "stream", "by", "over", "built", "versions"]
    assert ["named", "windows", "order", "customer", "1d", "True", "-"] in lines


def test_values_have_their_declared_types(shop: Running) -> None:
    """Compared as texts: 3 is 3.0 for Python."""
    expected = {
        "account": '[[2.0,3,true,"2023-12-01T00:00:00.500000Z"],[2.0,null,null,null],[null,null,null,null]]',
        "seen": "[[1,3],[1,null],[0,null]]",
    }
    for name, values in expected.items():
        body = {"requests": [{"customer": customer} for customer in ("c0", "c1", "c2")]}
        found = read(shop, name, body)[1]
        assert json.dumps(found["values"], separators=(",", ":")) == values
        told = shop.command("features", "read", name, "customer=c0")[1]["values"]
        assert json.dumps(list(told.values())) == json.dumps(found["values"][0])
