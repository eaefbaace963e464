"""The `@operation` mark: one typed function yields the HTTP route, the command, the permission and the audit record.

The shells in `app/` read this table; permission, audit, idempotency and tracing attach there, at one point.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from headrace.kernel.identity import Permission

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a user can do. `function(context, **arguments)` does it; `http` is such as `POST /rollouts`,
    below `/api/v1`, with path parameters in braces; `cli` such as `rollout start`; either may be absent."""

    name: str
    function: Callable[..., Any]
    permission: Permission
    changes: bool
    http: str | None
    cli: str | None
    found_bad: Callable[[Any], bool] | None
    """True of a result that was checked and found bad: exit code 1."""
    text: tuple[str, ...] = ()
    """The fields of its records that text for a person has, all of them where none is named; JSON always has all."""

    @property
    def summary(self) -> str:
        return (self.function.__doc__ or "").strip().split("\n")[0]


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str,
    *,
    permission: Permission,
    changes: bool = False,
    http: str | None = None,
    cli: str | None = None,
    found_bad: Callable[[Any], bool] | None = None,
    text: tuple[str, ...] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Enter the function in the operation table. Its first parameter is the Context, all others are keyword-only,
    typed with str, int, float, bool, Path, list[str] or `| None`, a number also with the bounds that its meaning sets
    (`Annotated[int, msgspec.Meta(ge=1)]`); it returns something msgspec can encode.
    """
    if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name):
        raise ValueError(f"operation name {name!r} is not `noun.verb`")

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        if name in OPERATIONS:
            raise ValueError(f"operation {name!r} is declared twice")
        if not function.__doc__:
            raise ValueError(f"operation {name!r} needs a docstring: it is its help text")
        OPERATIONS[name] = Operation(name, function, permission, changes, http, cli, found_bad, text)
        return function

    return mark
