"""Roles and permissions, logs that hide what must not be read, errors that say how to go on."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr

import pytest

from headrace.kernel import errors
from headrace.kernel.errors import HeadraceError, NotFound
from headrace.kernel.identity import GRANTS, LOCAL, SYSTEM, Permission, Principal, Role, authorize
from headrace.kernel.log import LEVELS, Log, request_id
from headrace.kernel.namespace import Namespace
from headrace.kernel.operation import OPERATIONS, operation
from headrace.kernel.specs import Specs


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_role_may_what_it_is_granted_and_nothing_else(role: Role, permission: Permission) -> None:
    principal = Principal("k1", "ada", role)
    if permission in GRANTS[role]:
        authorize(principal, permission)
        return
    with pytest.raises(errors.Denied) as caught:
        authorize(principal, permission)
    assert "`ada`" in caught.value.message
    assert "allowed: admin" in caught.value.message


def test_a_viewer_changes_nothing_and_only_an_admin_administers() -> None:
    assert GRANTS[Role.VIEWER] == {Permission.READ}
    assert [role for role in Role if Permission.ADMINISTER in GRANTS[role]] == [Role.ADMIN]
    assert LOCAL.role is SYSTEM.role is Role.ADMIN


def written(log: Log, **fields: object) -> str:
    with redirect_stderr(io.StringIO()) as stream:
        log.info("event", **fields)
    return stream.getvalue()


@pytest.mark.parametrize("json_format", [False, True])
def test_secrets_and_personal_fields_are_never_in_clear(json_format: bool) -> None:
    log = Log()
    log.json = json_format
    log.personal = frozenset({"iban"})
    line = written(log, api_key="abc1", token="abc2", Authorization="abc3", password="abc4", iban="abc5", key_id="public")
    assert "abc" not in line
    assert line.count("***") == 5
    assert "public" in line


def test_a_log_line_is_one_line_and_carries_the_request() -> None:
    as_json = Log()
    as_json.json = True
    token = request_id.set("r-17")
    try:
        line = written(Log(), text="two\nlines")
        assert line.count("\n") == 1
        assert "request_id=r-17" in line
        record = json.loads(written(as_json, count=3))
        assert record["request_id"] == "r-17"
        assert (record["level"], record["event"], record["count"]) == ("info", "event", 3)
    finally:
        request_id.reset(token)


def test_the_level_holds_back_what_is_below_it() -> None:
    quiet = Log()
    quiet.threshold = LEVELS["warning"]
    assert written(quiet) == ""


def test_every_error_has_its_own_code_and_an_exit_code_of_the_interface() -> None:
    found = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HeadraceError)]
    assert len({c.code for c in found}) == len(found) >= 12
    assert {c.exit_code for c in found} <= {1, 2, 3, 4, 5, 6, 130}  # (130: what shells say of a command that was interrupted)
    assert all(400 <= c.status < 600 for c in found)
    body = errors.InvalidInput("wrong", hint="mend it", field="amount").body()
    assert body == {"error": {"code": "invalid_input", "message": "wrong", "hint": "mend it", "field": "amount"}}


def test_an_unknown_name_lists_the_known() -> None:
    error = NotFound.of("stream", "paymets", ["refunds", "payments"])
    assert error.message == "unknown stream `paymets`; known: `payments`, `refunds`"
    assert str(error).endswith("\nhint: use one of the known stream names")
    with pytest.raises(NotFound, match="known: none"):
        Specs().get(type(NAMED), "x")


class Named:
    kind, name = "thing", "first"


NAMED = Named()


def test_specs_are_found_by_type_and_name() -> None:
    specs = Specs([NAMED])
    assert specs.get(Named, "first") is NAMED
    assert specs.all(Named) == [NAMED]
    with pytest.raises(NotFound, match="`first`"):
        specs.get(Named, "second")


def test_every_name_starts_with_the_system() -> None:
    namespace = Namespace("fraud")
    names = [namespace.stream("s"), namespace.quarantine("s"), namespace.predictions("x"), namespace.counters("x")]
    assert all(name.startswith("fraud/") for name in names)
    assert len(set(names)) == 4


def test_an_operation_needs_a_name_a_help_text_and_to_be_the_only_one() -> None:
    def documented() -> None:
        """Do it."""

    with pytest.raises(ValueError, match="noun"):
        operation("Wrong", permission=Permission.READ)(documented)
    with pytest.raises(ValueError, match="docstring"):
        operation("house.bare", permission=Permission.READ)(lambda: None)
    operation("house.test", permission=Permission.READ)(documented)
    try:
        assert OPERATIONS["house.test"].summary == "Do it."
        with pytest.raises(ValueError, match="twice"):
            operation("house.test", permission=Permission.READ)(documented)
    finally:
        del OPERATIONS["house.test"]
