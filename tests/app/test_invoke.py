"""Permission, idempotency, audit: each at the one point that every operation passes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from app_world import Counter
from installation import open_world
from sqlalchemy import select, text

from headrace.app.invoke import invoke
from headrace.app.tables import answers
from headrace.engines.context import Context
from headrace.kernel.errors import Conflict, Denied, InvalidInput, NotFound
from headrace.kernel.identity import GRANTS, Permission, Principal, Role
from headrace.kernel.operation import Operation
from headrace.ledger.tables import OUTBOX


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return open_world(tmp_path)


def records(ctx: Context) -> list[dict[str, Any]]:
    with ctx.catalog.reading() as connection:
        rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.sequence)).all()
    return [{"kind": r.kind, "subject": r.subject, "actor": r.actor_name, **msgspec.json.decode(r.payload)} for r in rows]


@pytest.mark.parametrize("role", list(Role))
def test_only_granted_roles_act(ctx: Context, role: Role) -> None:
    counter = Counter()
    acting = ctx.acting(Principal("k", "somebody", role))
    if Permission.RELEASE in GRANTS[role]:
        invoke(acting, counter.operation(), {"name": "a"})
        assert len(counter.calls) == 1
    else:
        with pytest.raises(Denied, match="somebody"):
            invoke(acting, counter.operation(), {"name": "a"})
        assert not counter.calls
        assert not records(ctx)


def test_a_change_is_recorded_before_and_after(ctx: Context) -> None:
    invoke(ctx, Counter().operation(), {"name": "a", "secret": "hunter2"})
    begun, done = records(ctx)
    assert (begun["kind"], begun["subject"], begun["actor"], begun["phase"]) == ("thing.act", "a", "local", "begun")
    assert begun["arguments"] == {"name": "a", "secret": "***"}
    assert done["phase"] == "done"


def test_a_failed_change_is_recorded_as_failed(ctx: Context) -> None:
    with pytest.raises(NotFound):
        invoke(ctx, Counter().operation(fails=NotFound("no")), {"name": "a"})
    assert [(r["phase"], r.get("error")) for r in records(ctx)] == [("begun", None), ("failed", "not_found")]


def test_nothing_is_done_when_the_record_cannot_be_written(ctx: Context) -> None:
    with ctx.catalog.transaction() as connection:
        connection.execute(text("DROP TABLE outbox"))
    counter = Counter()
    with pytest.raises(Exception, match="outbox"):
        invoke(ctx, counter.operation(), {"name": "a"})
    assert not counter.calls


def test_reading_is_not_recorded(ctx: Context) -> None:
    invoke(ctx, Counter().operation(changes=False), {"name": "a"})
    assert not records(ctx)


def test_a_retry_gets_the_first_answer_without_its_secret(ctx: Context) -> None:
    counter = Counter()
    operation = counter.operation()
    first = invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
    again = invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
    assert len(counter.calls) == 1
    assert first == {"name": "a", "call": 1, "key": "hr_secret"}
    assert again == {"name": "a", "call": 1, "key": "***"}
    with ctx.catalog.reading() as connection:
        assert "hr_secret" not in connection.execute(select(answers.c.result)).scalar_one()


def test_the_same_key_for_something_else_is_a_conflict(ctx: Context) -> None:
    operation = Counter().operation()
    invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
    with pytest.raises(Conflict, match="k1"):
        invoke(ctx, operation, {"name": "b"}, idempotency_key="k1")


def test_keys_are_apart_by_principal_and_system(ctx: Context) -> None:
    counter = Counter()
    operation = counter.operation()
    other = ctx.acting(Principal("k2", "other", Role.ADMIN))
    for caller in (ctx, other):
        invoke(caller, operation, {"name": "a"}, idempotency_key="k1")
    assert len(counter.calls) == 2


def test_a_failure_is_not_an_answer(ctx: Context) -> None:
    counter = Counter()
    with pytest.raises(NotFound):
        invoke(ctx, counter.operation(fails=NotFound("no")), {"name": "a"}, idempotency_key="k1")
    assert invoke(ctx, counter.operation(), {"name": "a"}, idempotency_key="k1")["call"] == 2


DYING = """
import os, signal, sys
from pathlib import Path
from installation import open_world
from headrace.app.invoke import invoke
from headrace.kernel.identity import Permission
from headrace.kernel.operation import Operation

def act(ctx, *, name: str) -> dict:
    "Act."
    if sys.argv[2] == "acted":
        (Path(sys.argv[1]) / "acts").write_text("once")
    os.kill(os.getpid(), signal.SIGKILL)

operation = Operation("thing.act", act, Permission.RELEASE, True, "POST /things/{name}", "thing act", None)
invoke(open_world(Path(sys.argv[1])), operation, {"name": "a"}, idempotency_key="k1")
"""


@pytest.mark.parametrize("when", ["acted", "not yet"])
def test_a_retry_of_what_a_crash_cut_off_says_so_and_does_not_act(ctx: Context, tmp_path: Path, when: str) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path), when]
    died = subprocess.run(command, cwd=Path(__file__).parents[1], check=False, env={**os.environ, "PYTHONPATH": "."})
    assert died.returncode == -signal.SIGKILL and (tmp_path / "acts").exists() == (when == "acted")
    counter = Counter()
    operation = counter.operation()
    for _ in range(2):
        with pytest.raises(Conflict, match=r"`k1` began at .* and was cut off") as refused:
            invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
        assert "new key" in refused.value.hint
    with pytest.raises(Conflict, match="other arguments"):
        invoke(ctx, operation, {"name": "b"}, idempotency_key="k1")
    assert not counter.calls and [r["phase"] for r in records(ctx)] == ["begun"]
    assert invoke(ctx, operation, {"name": "a"}, idempotency_key="k2")["call"] == 1


def test_an_answer_that_cannot_be_recorded_is_not_acted_on_twice(ctx: Context) -> None:
    counter = Counter()

    def act(ctx: Context, *, name: str) -> dict[str, Any]:
        """Act, and lose the ledger's table."""
        with ctx.catalog.transaction() as connection:
            connection.execute(text("ALTER TABLE outbox RENAME TO away"))
        return {"acted": counter.calls.append({"name": name})}

    operation = Operation("thing.act", act, Permission.RELEASE, True, "POST /things/{name}", "thing act", None)
    with pytest.raises(Exception, match="outbox"):
        invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
    with ctx.catalog.transaction() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO outbox"))
    with pytest.raises(Conflict, match="cut off"):
        invoke(ctx, operation, {"name": "a"}, idempotency_key="k1")
    assert len(counter.calls) == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({}, "name"), ({"name": "a", "nome": 1}, "nome"), ({"name": "a", "times": "many"}, "times"), ({"name": None}, "name")],
)
def test_wrong_arguments_name_the_field(ctx: Context, arguments: dict[str, Any], field: str) -> None:
    counter = Counter()
    with pytest.raises(InvalidInput) as caught:
        invoke(ctx, counter.operation(), arguments)
    assert caught.value.field == field
    assert not counter.calls
