"""From the body of POST /streams/{name}/events to the bytes of single events; what is in them is the contract's matter."""

from __future__ import annotations

import codecs

import msgspec

from headrace.data.json_fields import UNREADABLE
from headrace.kernel.errors import InvalidInput

_array = msgspec.json.Decoder(list[msgspec.Raw])
_one = msgspec.json.Decoder(msgspec.Raw)


def events_of(body: bytes, content_type: str) -> list[bytes]:
    """The events of a JSON object, an array or NDJSON (one a line), as they came.

    InvalidInput for an array that cannot be split. A broken object or line is an event of its own: it goes to quarantine.
    """
    text = body.removeprefix(codecs.BOM_UTF8).strip()
    if not text:
        return []
    if "ndjson" in content_type or "jsonl" in content_type or "json-lines" in content_type:
        return _lines(text)
    if text.startswith(b"["):
        try:
            return [bytes(event) for event in _array.decode(text)]
        except UNREADABLE as error:
            raise InvalidInput(f"the body is no JSON array: {error}", hint="send an array, one object, or NDJSON") from None
    try:
        _one.decode(text)
    except UNREADABLE:
        return _lines(text)
    return [text]


def _lines(text: bytes) -> list[bytes]:
    return [line for line in (raw.strip() for raw in text.split(b"\n")) if line]
