"""From the bytes of a request to a typed, identified, timed row."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from headrace.data.contract import Contract
from headrace.data.types import StreamSpec, Violation
from headrace.kernel.clocks import EventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import key_text, new_id
from headrace.kernel.specs import Specs
from headrace.kernel.times import MINUTE, SECOND, format_time
from headrace.serving.types import ServiceSpec

MAX_FUTURE = 5 * MINUTE
"""For services whose request is not a stream; those take the stream's `max_future`."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Asked:
    """One request: `row` has its typed fields (times in microseconds). `key` is what makes a retry the same prediction,
    empty when nothing does; `digest` is the hash of the content; `entity` is what the router decides by."""

    id: str
    key: str
    digest: str
    at: int
    entity: str
    sticky: bool
    own_id: Any
    row: dict[str, Any]


class RequestReader:
    """Reads the requests of one service."""

    def __init__(self, system: str, spec: ServiceSpec, specs: Specs, clock: EventClock) -> None:
        stream = None if spec.request_stream is None else specs.get(StreamSpec, spec.request_stream)
        self._future = MAX_FUTURE if stream is None else stream.max_future
        self.contract = Contract(spec.request, time=spec.time, max_future=self._future)
        self._spec = spec
        self._prefix = f"{system}-"
        self._salt = spec.name.encode() + b"\0"
        self._own = spec.id if spec.request_stream is not None else None
        self._clock = clock

    def read(self, raw: bytes, key: str | None) -> Asked:
        """`key` is the Idempotency-Key, if any. InvalidInput names the field at fault."""
        row = self.contract.decode_row(raw)
        if isinstance(row, Violation):
            raise _refused(row)
        return self.identify(row, key)

    def check(self, document: Any, key: str | None) -> Asked:
        """As `read`, of a decoded JSON document."""
        row = self.contract.check_row(document)
        if isinstance(row, Violation):
            raise _refused(row)
        return self.identify(row, key)

    def identify(self, row: dict[str, Any], key: str | None) -> Asked:
        """The identified request of a typed row. InvalidInput for an asking time too far ahead of the clock."""
        spec = self._spec
        now = self._clock.now()
        at = now if spec.time is None else row[spec.time]
        if at is None:
            raise InvalidInput(f"field `{spec.time}` is null: it is the asking time", hint="send it", field=spec.time)
        if at > now + self._future:
            raise InvalidInput(
                f"field `{spec.time}` is {format_time(at)}, more than {self._future // SECOND} s ahead of the clock "
                f"({format_time(now)})",
                hint="send the time of the request",
                field=spec.time,
            )
        if key is None and spec.id is not None and row[spec.id] is not None:
            key = key_text(row[spec.id])
        identifier, key = self.identifier(key)
        entity = None if spec.key is None or row[spec.key] is None else key_text(row[spec.key])
        digest = blake2b(_encode(list(row.values())), digest_size=16).hexdigest()
        own = None if self._own is None else row[self._own]
        return Asked(identifier, key, digest, at, identifier if entity is None else entity, entity is not None, own, row)

    def identifier(self, key: str | None) -> tuple[str, str]:
        """The prediction id of a request key, and the key: the same key, the same id; without one a new id and `""`."""
        if not key:
            return self._prefix + new_id(), ""
        return self._prefix + blake2b(self._salt + key.encode(), digest_size=16).hexdigest(), key


def _refused(violation: Violation) -> InvalidInput:
    if violation.field is None:
        return InvalidInput(f"the body is not a request: {violation.reason}: `{violation.value}`",
                            hint="send one JSON object of the request's fields")  # fmt: skip
    value = f": `{violation.value}`" if violation.value else ""
    return InvalidInput(f"field `{violation.field}` {violation.reason}{value}", hint="mend the field", field=violation.field)
