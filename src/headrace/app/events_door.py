"""POST /streams/{name}/events: durable in the log on the answer, and with an idempotency key appended once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.boundary import BODY_LIMIT, body_too_large
from headrace.app.encoding import encode
from headrace.app.events_body import events_of
from headrace.app.in_flight import InFlight
from headrace.data.appending import append_raw
from headrace.data.producing import Producer, forget_before
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict, InvalidInput
from headrace.kernel.ids import content_hash
from headrace.kernel.times import DAY, HOUR

KEPT = 7 * DAY
"""Machine-clock microseconds for which a key is known."""
LONGEST_KEY = 255


class OnceByKey:
    """Appends of one process under idempotency keys."""

    def __init__(self) -> None:
        self._in_flight = InFlight()
        self._forget_at = 0

    def append(self, ctx: Context, stream: str, key: str, values: Sequence[bytes]) -> dict[str, Any]:
        """Append the events unless the caller did so under this key. Conflict when the key came with other events."""
        self._forget(ctx)
        name = f"http/{content_hash([ctx.principal.id, key])[:32]}"
        with self._in_flight.alone(ctx.system, stream, name, key=key):
            producer, digest = Producer(ctx, stream, name), content_hash(b"\n".join(values))
            if producer.state is None:
                producer.append(values, {"digest": digest, "appended": len(values)})
            elif producer.state["digest"] != digest:
                raise Conflict(f"the idempotency key `{key}` came with other events", hint="use a new key for other events")
            return _answer(stream, int(producer.state["appended"]), producer.offset)

    def _forget(self, ctx: Context) -> None:
        now = MACHINE.now()
        if now >= self._forget_at:
            self._forget_at = now + HOUR
            forget_before(ctx, "http/", now - KEPT)


_once = OnceByKey()


def _answer(stream: str, appended: int, offset: int | None) -> dict[str, Any]:
    return {"stream": stream, "appended": appended, "offset": offset if appended else None}


async def append_events(request: Request, name: str) -> Response:
    """A JSON object, an array of them, or NDJSON, also with `Content-Encoding: gzip`. On the answer they are durable in the
    log; the contract is checked after. With an `Idempotency-Key` a retry within 7 days gets the first answer."""
    ctx: Context = request.state.ctx
    ctx.specs.get(StreamSpec, name)
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise InvalidInput(f"an idempotency key of {len(key)} characters; allowed: 1 to {LONGEST_KEY}", hint="use a UUID")
    body = _unpacked(await request.body(), request.headers.get("content-encoding", ""))
    values = events_of(body, request.headers.get("content-type", ""))
    answer = await run_in_threadpool(_append, ctx, name, key, values)
    return Response(encode(answer), media_type="application/json")


def _append(ctx: Context, stream: str, key: str | None, values: Sequence[bytes]) -> dict[str, Any]:
    if key is not None:
        return _once.append(ctx, stream, key, values)
    return _answer(stream, len(values), append_raw(ctx, stream, values) if values else None)


def _unpacked(body: bytes, encoding: str) -> bytes:
    """The body without its content encoding, no longer than a body may be."""
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise InvalidInput(f"the body is encoded as `{encoding}`; allowed: gzip", hint="send it as it is")
    reader = zlib.decompressobj(wbits=31)
    try:
        content = reader.decompress(body, BODY_LIMIT + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is not gzip: {error}", hint="send it as it is") from None
    if len(content) > BODY_LIMIT:
        raise body_too_large()
    if not reader.eof or reader.unused_data:
        raise InvalidInput("the body is not one whole gzip stream", hint="send it as it is")
    return content
