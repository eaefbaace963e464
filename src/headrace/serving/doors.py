"""What the prediction routes do: bytes of a request in, the future of what is answered, bytes of the answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec
import numpy as np

from headrace.kernel.clocks import MACHINE, EventClock
from headrace.kernel.errors import InvalidInput
from headrace.kernel.identity import Permission
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


class Door(NamedTuple):
    """A route. `begin` takes the body and the Idempotency-Key header, if any; it, or its future, raises HeadraceError.
    `render` makes the answer's body of the future's result; `asks` is the permission that it takes."""

    begin: Callable[[bytes, str | None], asyncio.Future[Any]]
    render: Callable[[Any], bytes]
    asks: Permission = Permission.PREDICT


class ServiceDoor:
    """`/services/{service}/predict` and `/predict/batch`."""

    def __init__(self, reader: RequestReader, predictor: Predictor) -> None:
        self._reader = reader
        self._predictor = predictor
        self.predict = Door(self._begin, lambda record: encode(answer_of(record)))
        self.batch = Door(self._begin_batch, lambda records: encode({"predictions": [answer_of(r) for r in records]}))

    def _begin(self, body: bytes, key: str | None) -> asyncio.Future[PredictionRecord]:
        started = MACHINE.monotonic()
        return self._predictor.ask(self._reader.read(body, key), started)

    def _begin_batch(self, body: bytes, key: str | None) -> asyncio.Future[list[PredictionRecord]]:
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
        return _all(self._predictor, [(one, started, None) for one in asked])


class InputDoor:
    """`/predict` in the guide's form: whole feature rows in model order. They carry no entity and no event: they are
    logged with `sticky` false, an empty request and no positions."""

    def __init__(self, reader: RequestReader, predictor: Predictor, columns: Sequence[str], clock: EventClock) -> None:
        self._reader = reader
        self._predictor = predictor
        self._columns = columns
        self._clock = clock
        self.predict = Door(self._begin, lambda records: encode({"result": [record.score for record in records]}))

    def _begin(self, body: bytes, key: str | None) -> asyncio.Future[list[PredictionRecord]]:
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
        return _all(self._predictor, asks)

    def _row(self, number: int, row: Any) -> np.ndarray:
        expected = f"{len(self._columns)} numbers: {', '.join(self._columns)}"
        good = isinstance(row, list) and all(v is None or (type(v) in (int, float)) for v in row)
        if not good or len(row) != len(self._columns):
            found = f"{len(row)} values" if isinstance(row, list) else f"`{row!r}`"[:200]
            raise InvalidInput(f"input row {number} is {found}; allowed: {expected}",
                               hint="send the features in model order", field="input")  # fmt: skip
        return np.array(row, dtype=np.float64)


Asks = Sequence[tuple[Asked, float, np.ndarray | None]]


def _all(predictor: Predictor, asks: Asks) -> asyncio.Future[list[PredictionRecord]]:
    if len(asks) <= AT_ONCE:
        return asyncio.gather(*[predictor.ask(*ask) for ask in asks])
    return asyncio.ensure_future(_in_parts(predictor, asks))


async def _in_parts(predictor: Predictor, asks: Asks) -> list[PredictionRecord]:
    records: list[PredictionRecord] = []
    for start in range(0, len(asks), AT_ONCE):
        records += await asyncio.gather(*[predictor.ask(*ask) for ask in asks[start : start + AT_ONCE]])
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


def unknown_argument(path: str, query: bytes) -> InvalidInput:
    """What is wrong with a prediction's query string: prediction routes take no arguments."""
    name = next(iter(parse_qs(query.decode("latin-1"), keep_blank_values=True)), "")
    hint = "send the request's fields in the body"
    if name == "explain":
        hint = "reasons are not given yet; `headrace why PREDICTION_ID` shows a prediction's features and version"
    return InvalidInput(f"unknown query argument `{name}` of `{path}`; allowed: none", hint=hint, field=name)
