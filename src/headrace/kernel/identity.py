"""Who asks, and what a role may do. The matrix of `docs/permissions.md` is generated from `GRANTS`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headrace.kernel.errors import Denied


class Role(StrEnum):
    VIEWER = "viewer"
    DEVELOPER = "developer"
    OPERATOR = "operator"
    ADMIN = "admin"
    SERVICE = "service"


class Permission(StrEnum):
    """What a door or an operation asks for. Everything not granted is denied."""

    READ = "read"
    WRITE_EVENTS = "write_events"
    PREDICT = "predict"
    TRAIN = "train"
    RELEASE = "release"
    CLOCK = "clock"
    ADMINISTER = "administer"


GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.DEVELOPER: frozenset(
        {Permission.READ, Permission.WRITE_EVENTS, Permission.PREDICT, Permission.TRAIN, Permission.CLOCK}
    ),
    Role.OPERATOR: frozenset(
        {Permission.READ, Permission.WRITE_EVENTS, Permission.PREDICT, Permission.RELEASE, Permission.CLOCK}
    ),
    Role.ADMIN: frozenset(Permission),
    Role.SERVICE: frozenset({Permission.PREDICT, Permission.WRITE_EVENTS}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller: the id and name of its key, and its role."""

    id: str
    name: str
    role: Role


LOCAL = Principal("local", "local", Role.ADMIN)
"""The owner of the data folder: the command line, and loopback requests while no key exists."""
SYSTEM = Principal("system", "system", Role.ADMIN)
"""headrace itself: the loop that acts by the declared policy."""


def authorize(principal: Principal, permission: Permission) -> None:
    """Return when the role grants `permission`, else raise Denied. The one check behind every door."""
    if permission not in GRANTS[principal.role]:
        allowed = ", ".join(sorted(role for role, granted in GRANTS.items() if permission in granted))
        raise Denied(
            f"`{principal.name}` has the role `{principal.role}`, which may not `{permission}`; allowed: {allowed}",
            hint="use a key with one of these roles: `headrace keys create --name N --role R`",
        )
