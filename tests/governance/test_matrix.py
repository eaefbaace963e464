"""The permission page says what `authorize` does, for every role and every row."""

from __future__ import annotations

import pytest

from headrace.governance import operations  # noqa: F401
from headrace.governance.matrix import DOORS, render_matrix
from headrace.kernel.errors import Denied
from headrace.kernel.identity import Permission, Principal, Role, authorize
from headrace.kernel.operation import OPERATIONS


def rows(page: str, section: str) -> dict[str, dict[str, str]]:
    """The table of a section: first column -> {heading: cell}."""
    lines = [
        line for line in page.split(f"## {section}\n")[1].split("\n## ", maxsplit=1)[0].splitlines() if line.startswith("|")
    ]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    head, body = cells[0], cells[2:]
    return {row[0]: dict(zip(head, row, strict=True)) for row in body}


def answer(role: Role, permission: Permission) -> str:
    try:
        authorize(Principal("k", "k", role), permission)
    except Denied:
        return "no"
    return "yes"


@pytest.mark.parametrize("role", list(Role))
def test_every_cell_is_what_authorize_answers(role):
    page = render_matrix(OPERATIONS.values())
    found = rows(page, "Operations")
    assert found.keys() == OPERATIONS.keys()
    for name, row in found.items():
        assert row[role] == answer(role, OPERATIONS[name].permission)
    for permission, row in rows(page, "Roles").items():
        assert row[role] == answer(role, Permission(permission))
    doors = rows(page, "Other doors")
    assert list(doors) == list(DOORS)
    for door, row in doors.items():
        permission = DOORS[door]
        assert row[role] == ("yes" if permission is None else answer(role, permission))


def test_keys_and_backups_are_for_administrators_only():
    found = rows(render_matrix(OPERATIONS.values()), "Operations")
    for name in ("keys.create", "keys.list", "keys.revoke", "backup.create"):
        assert [found[name][role] for role in Role] == ["no", "no", "no", "yes", "no"]
    assert found["keys.create"]["route"] == "POST /api/v1/keys"
    assert found["audit.verify"]["route"] == found["backup.create"]["route"] == "none"
