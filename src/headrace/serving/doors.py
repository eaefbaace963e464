"""What the prediction routes do: bytes of a request in, bytes of the answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from headrace.kernel.clocks import MACHINE, EventClock
from headrace.kernel.errors import InvalidInput
from headrace.serving.http import encode
from headrace.serving.prediction import Predictor
from headrace.serving.requests import Asked, RequestReader
from headrace.serving.types import PredictionRecord

AT_ONCE = 32
"""Rows of a batch request per loop tick, so that single requests are answered in between."""


class Answer(msgspec.Struct):
    """The answer to one request."""

    score: float | None
    prediction_id: str
    service: str
    version: int
    sticky: bool


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[Any]


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    input: list[Any]


_rows = msgspec.json.Decoder(_Rows)
_input = msgspec.json.Decoder(_Input)


def answer_of(record: PredictionRecord) -> Answer:
    return Answer(record.score, record.id, record.service, record.version, record.sticky)


class ServiceDoor:
    """`/services/{service}/predict` and `/predict/batch`. `key` is the Idempotency-Key header, if any."""

    def __init__(self, reader: RequestReader, predictor: Predictor) -> None:
        self._reader = reader
        self._predictor = predictor

    async def predict(self, body: bytes, key: str | None) -> bytes:
        started = MACHINE.monotonic()
        record = await self._predictor.ask(self._reader.read(body, key), started)
        return encode(Answer(record.score, record.id, record.service, record.version, record.sticky))

    async def predict_batch(self, body: bytes, key: str | None) -> bytes:
        """All rows are checked before the first is predicted. Row i of a request with a key has the key `KEY/i`."""
        started = MACHINE.monotonic()
        documents = _decoded(_rows, body, '{"rows":[...]}').rows
        asked = []
        for number, document in enumerate(documents):
            try:
                asked.append(self._reader.check(document, None if key is None else f"{key}/{number}"))
            except InvalidInput as error:
                raise InvalidInput(f"row {number}: {error.message}", hint=error.hint,
                                   field=f"rows[{number}].{error.field or ''}".rstrip(".")) from None  # fmt: skip
        records = await _all(self._predictor, [(one, started, None) for one in asked])
        return encode({"predictions": [answer_of(record) for record in records]})


class InputDoor:
    """`/predict` in the guide's form: whole feature rows in model order. They carry no entity and no event: they are
    logged with `sticky` false, an empty request and no positions."""

    def __init__(self, reader: RequestReader, predictor: Predictor, columns: Sequence[str], clock: EventClock) -> None:
        self._reader = reader
        self._predictor = predictor
        self._columns = columns
        self._clock = clock

    async def predict(self, body: bytes, key: str | None) -> bytes:
        """`{"input": row or rows}` -> `{"result": [one score a row]}`; null is a missing value."""
        started = MACHINE.monotonic()
        given = _decoded(_input, body, '{"input": [...]}').input
        rows = given if given and isinstance(given[0], list) else [given]
        matrix = [self._row(number, row) for number, row in enumerate(rows)]
        many = len(matrix) > 1
        asks = []
        for number, row in enumerate(matrix):
            identifier, own_key = self._reader.identifier(f"{key}/{number}" if key and many else key)
            digest = blake2b(row.tobytes(), digest_size=16).hexdigest()
            asked = Asked(identifier, own_key, digest, self._clock.now(), identifier, False, None, {})
            asks.append((asked, started, row))
        records = await _all(self._predictor, asks)
        return encode({"result": [record.score for record in records]})

    def _row(self, number: int, row: Any) -> np.ndarray:
        expected = f"{len(self._columns)} numbers: {', '.join(self._columns)}"
        good = isinstance(row, list) and all(v is None or (type(v) in (int, float)) for v in row)
        if not good or len(row) != len(self._columns):
            found = f"{len(row)} values" if isinstance(row, list) else f"`{row!r}`"[:200]
            raise InvalidInput(f"input row {number} is {found}; allowed: {expected}",
                               hint="send the features in model order", field="input")  # fmt: skip
        return np.array(row, dtype=np.float64)


async def _all(predictor: Predictor, asks: Sequence[tuple[Asked, float, np.ndarray | None]]) -> list[PredictionRecord]:
    records: list[PredictionRecord] = []
    for start in range(0, len(asks), AT_ONCE):
        futures = [predictor.ask(*ask) for ask in asks[start : start + AT_ONCE]]
        records += await asyncio.gather(*futures)
    return records


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes, form: str) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the body is not `{form}`: {error}", hint=f"send {form}") from None


def key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The Idempotency-Key header; InvalidInput when it is too long."""
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= 255:
        raise InvalidInput("the header Idempotency-Key has more than 255 characters or none", hint="send a short unique text")
    return key.decode("latin-1")
