"""The one point that every operation passes: permission, idempotency, audit, tracing."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection

from headrace.app.answers import Claim
from headrace.app.arguments import typed
from headrace.app.encoding import plain
from headrace.app.in_flight import InFlight
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError
from headrace.kernel.identity import authorize
from headrace.kernel.ids import content_hash
from headrace.kernel.log import LOG
from headrace.kernel.operation import Operation
from headrace.ledger.outbox import record

_in_flight = InFlight()


def invoke(ctx: Context, operation: Operation, arguments: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
    """Run `operation` for `ctx.principal` and return its result.

    A changing operation writes an audit record before it acts, so that nothing is done unrecorded, and its outcome
    after; it fails when either cannot be written. With an `idempotency_key`, a retry of one that succeeded returns the
    first result. Raises Denied, InvalidInput for arguments, Conflict for a key that is used again for something else, or
    whose first request a crash has cut off.
    """
    authorize(ctx.principal, operation.permission)
    values = typed(operation, arguments)
    if not operation.changes:
        return _traced(ctx, operation, values)
    if idempotency_key is None:
        return _recorded(ctx, operation, values)
    return _once(ctx, operation, values, idempotency_key)


def _traced(ctx: Context, operation: Operation, values: dict[str, Any]) -> Any:
    began = MACHINE.monotonic()
    outcome = "failed"
    try:
        result = operation.function(ctx, **values)
        outcome = "done"
        return result
    except HeadraceError as error:
        outcome = error.code
        raise
    finally:
        milliseconds = round((MACHINE.monotonic() - began) * 1e3, 1)
        write = LOG.info if operation.changes else LOG.debug
        write("operation", name=operation.name, outcome=outcome, by=ctx.principal.name, ms=milliseconds)


def _recorded(ctx: Context, operation: Operation, values: dict[str, Any], claim: Claim | None = None) -> Any:
    shown = without_secrets(plain(values))
    subject = next((str(value) for value in shown.values() if isinstance(value, str | int)), operation.name)

    def note(connection: Connection, payload: dict[str, Any]) -> str:
        return record(connection, ctx.system, operation.name, subject, payload, ctx.principal, ctx.clock.now())

    with ctx.catalog.transaction() as connection:
        if claim is not None:
            claim.take(connection)
        begun = note(connection, {"phase": "begun", "arguments": shown, "request": ctx.request_id})
    try:
        result = _traced(ctx, operation, values)
    except BaseException as error:
        code = error.code if isinstance(error, HeadraceError) else type(error).__name__
        with ctx.catalog.transaction() as connection:
            if claim is not None:
                claim.release(connection)
            note(connection, {"phase": "failed", "of": begun, "error": code})
        raise
    with ctx.catalog.transaction() as connection:
        if claim is not None:
            claim.keep(connection, msgspec.json.encode(without_secrets(plain(result))).decode())
        note(connection, {"phase": "done", "of": begun})
    return result


def _once(ctx: Context, operation: Operation, values: dict[str, Any], key: str) -> Any:
    """`_in_flight` tells what this process works on from what one before it died over: only the process that holds the
    system's lock is given keys."""
    claim = Claim(ctx.system, ctx.principal.id, operation.name, key, content_hash(plain(values)))
    with _in_flight.alone(claim.system, claim.principal, claim.operation, key, key=key):
        with ctx.catalog.reading() as connection:
            stored = claim.stored(connection)
        return _recorded(ctx, operation, values, claim) if stored is None else msgspec.json.decode(stored)


def without_secrets(value: Any) -> Any:
    """`value` (plain) with `***` in place of secret and personal fields."""
    if isinstance(value, dict):
        return {name: "***" if LOG.hidden(name) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
