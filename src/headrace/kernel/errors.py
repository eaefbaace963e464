"""The error tree. Each error has a code, an HTTP status, an exit code, whether a retry can help, and a hint.

HeadraceError            internal           500  exit 1
├── InvalidInput         invalid_input      400  exit 3   bad data: names the field
│   ├── Conflict         conflict           409  exit 3   the same id with other content
│   └── TooLarge         too_large          413  exit 3
├── InvalidSystem        invalid_system     400  exit 3   the system file: names the declaration and the line
├── UsageError           usage              400  exit 2
├── NotFound             not_found          404  exit 4   lists what is known
├── Unauthenticated      unauthenticated    401  exit 5
├── Denied               denied             403  exit 5
├── CheckFailed          check_failed       409  exit 1   checked and found bad
├── IncompatibleFormat   incompatible       500  exit 3   written by a newer headrace
├── Fenced               fenced             409  exit 6   another process has taken over; the work goes on there
├── NotReady             not_ready          503  exit 6   no version serves yet, or draining; a retry can help
├── EngineUnreachable    engine_unreachable 503  exit 6   a retry can help
└── Interrupted          interrupted        503  exit 130 stopped by SIGINT or SIGTERM; says how to go on
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class HeadraceError(Exception):
    """Any error that headrace reports; `message` says what, which value and what is allowed, `hint` how to go on."""

    code = "internal"
    status = 500
    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def body(self) -> dict[str, dict[str, Any]]:
        """The body of an HTTP answer and of `--json` output."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


class InvalidInput(HeadraceError):
    code, status, exit_code = "invalid_input", 400, 3


class Conflict(InvalidInput):
    code, status = "conflict", 409


class TooLarge(InvalidInput):
    code, status = "too_large", 413


class InvalidSystem(HeadraceError):
    code, status, exit_code = "invalid_system", 400, 3


class UsageError(HeadraceError):
    code, status, exit_code = "usage", 400, 2


class NotFound(HeadraceError):
    code, status, exit_code = "not_found", 404, 4

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[object]) -> NotFound:
        """`NotFound.of("stream", "paymets", ["payments"])`."""
        names = ", ".join(f"`{k}`" for k in sorted(map(str, known)))
        hint = f"use one of the known {kind} names" if names else f"there is no {kind} yet"
        return cls(f"unknown {kind} `{name}`; known: {names or 'none'}", hint=hint)


class Unauthenticated(HeadraceError):
    code, status, exit_code = "unauthenticated", 401, 5


class Denied(HeadraceError):
    code, status, exit_code = "denied", 403, 5


class CheckFailed(HeadraceError):
    code, status, exit_code = "check_failed", 409, 1


class IncompatibleFormat(HeadraceError):
    code, status, exit_code = "incompatible", 500, 3

    @classmethod
    def newer(cls, what: str, found: object, known: int, *, otherwise: str = "") -> IncompatibleFormat:
        """`what` has the format `found`, and this headrace reads those up to `known`. `otherwise`: another way to go on."""
        hint = f"install a newer headrace, or {otherwise}" if otherwise else "install a newer headrace"
        return cls(f"{what} has format {found}, this headrace reads up to {known}", hint=hint)


class Fenced(HeadraceError):
    code, status, exit_code = "fenced", 409, 6


class NotReady(HeadraceError):
    code, status, exit_code, retryable = "not_ready", 503, 6, True


class EngineUnreachable(HeadraceError):
    code, status, exit_code, retryable = "engine_unreachable", 503, 6, True


class Interrupted(HeadraceError):
    code, status, exit_code, retryable = "interrupted", 503, 130, True
