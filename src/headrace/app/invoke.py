"""The one point that every operation passes: permission, idempotency, audit, tracing."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
from sqlalchemy import select

from headrace.app.arguments import typed
from headrace.app.encoding import plain
from headrace.app.tables import answers
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict, HeadraceError
from headrace.kernel.identity import authorize
from headrace.kernel.ids import content_hash
from headrace.kernel.log import LOG
from headrace.kernel.operation import Operation
from headrace.kernel.times import DAY
from headrace.ledger.outbox import record

KEPT = 7 * DAY
"""Machine-clock microseconds for which an answer is kept for a retry."""
_in_flight: set[tuple[str, ...]] = set()
_in_flight_lock = threading.Lock()


def invoke(ctx: Context, operation: Operation, arguments: dict[str, Any], *, idempotency_key: str | None = None) -> Any:
    """Run `operation` for `ctx.principal` and return its result.

    A changing operation writes an audit record before it acts, so that nothing is done unrecorded, and its outcome
    after; it fails when either cannot be written. With an `idempotency_key`, a retry of one that succeeded returns the
    first result. Raises Denied, InvalidInput for arguments, Conflict for a key that is used again for something else.
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


def _recorded(ctx: Context, operation: Operation, values: dict[str, Any]) -> Any:
    shown = without_secrets(plain(values))
    subject = next((str(value) for value in shown.values() if isinstance(value, str | int)), operation.name)
    begun = _record(ctx, operation, subject, {"phase": "begun", "arguments": shown, "request": ctx.request_id})
    try:
        result = _traced(ctx, operation, values)
    except BaseException as error:
        code = error.code if isinstance(error, HeadraceError) else type(error).__name__
        _record(ctx, operation, subject, {"phase": "failed", "of": begun, "error": code})
        raise
    _record(ctx, operation, subject, {"phase": "done", "of": begun})
    return result


def _record(ctx: Context, operation: Operation, subject: str, payload: dict[str, Any]) -> str:
    with ctx.catalog.transaction() as connection:
        return record(connection, ctx.system, operation.name, subject, payload, ctx.principal, ctx.clock.now())


def _once(ctx: Context, operation: Operation, values: dict[str, Any], key: str) -> Any:
    identity = (ctx.system, ctx.principal.id, operation.name, key)
    digest = content_hash(plain(values))
    with _in_flight_lock:
        if identity in _in_flight:
            raise Conflict(f"a request with the idempotency key `{key}` is still being worked on", hint="retry in a moment")
        _in_flight.add(identity)
    try:
        stored = _stored(ctx, identity, digest)
        if stored is not None:
            return msgspec.json.decode(stored)
        result = _recorded(ctx, operation, values)
        _store(ctx, identity, digest, result)
        return result
    finally:
        with _in_flight_lock:
            _in_flight.discard(identity)


def _stored(ctx: Context, identity: tuple[str, str, str, str], digest: str) -> str | None:
    system, principal, name, key = identity
    query = select(answers).where(
        (answers.c.system == system)
        & (answers.c.principal == principal)
        & (answers.c.operation == name)
        & (answers.c.idempotency_key == key)
    )
    with ctx.catalog.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    if row.arguments_hash != digest:
        raise Conflict(
            f"the idempotency key `{key}` was used for `{name}` with other arguments", hint="use a new key for a new request"
        )
    return str(row.result)


def _store(ctx: Context, identity: tuple[str, str, str, str], digest: str, result: Any) -> None:
    system, principal, name, key = identity
    text = msgspec.json.encode(without_secrets(plain(result))).decode()
    with ctx.catalog.transaction() as connection:
        connection.execute(answers.delete().where((answers.c.system == system) & (answers.c.at < MACHINE.now() - KEPT)))
        connection.execute(
            answers.insert().values(
                system=system,
                principal=principal,
                operation=name,
                idempotency_key=key,
                arguments_hash=digest,
                result=text,
                at=MACHINE.now(),
            )
        )


def without_secrets(value: Any) -> Any:
    """`value` (plain) with `***` in place of secret and personal fields."""
    if isinstance(value, dict):
        return {name: "***" if LOG.hidden(name) else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value
