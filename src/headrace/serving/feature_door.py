"""`/features/{name}/read`: the values of features for some requests, from the online store, as an application asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from headrace.data.types import FieldType, StreamSpec
from headrace.engines.context import Context
from headrace.features.arriving import check_built
from headrace.features.online import FeatureReader
from headrace.features.requests import asking_stream, field_types
from headrace.features.types import Ask, FeatureRow, FeatureSet
from headrace.kernel.errors import HeadraceError, InvalidInput, NotFound
from headrace.kernel.identity import Permission
from headrace.kernel.times import SECOND, format_time, parse_time
from headrace.serving.doors import Door
from headrace.serving.http import encode

MOST_REQUESTS = 1000
"""They are read in one tick of the loop: so many take a few milliseconds."""
FORM = '{"requests": [{"FIELD": VALUE, ...}, ...]}'
_TYPES: dict[FieldType, type] = {"int": int, "float": float, "bool": bool, "str": str}


class Questions(msgspec.Struct, forbid_unknown_fields=True):
    """The body: `requests` are objects of fields, all asked `at` one time, by default now."""

    requests: list[dict[str, str | int | float | bool | None]]
    at: str | None = None


class Values(msgspec.Struct):
    """The answer: for each request a row of `values` in the order of `columns` (NaN is null); `age_s` of each view and request:
    seconds since its newest event of the key."""

    at: str
    columns: tuple[str, ...]
    values: Sequence[Sequence[float | str | None]]
    age_s: dict[str, list[float | None]]


_questions = msgspec.json.Decoder(Questions)


class FeatureDoor:
    """The features of one model, view or function."""

    def __init__(self, ctx: Context, features: FeatureSet) -> None:
        self._ctx = ctx
        self._features = features
        self.read = Door(self._begin, encode, Permission.READ)

    @cached_property
    def _reader(self) -> FeatureReader:
        """NotReady while a view is being built."""
        check_built(self._ctx, self._features.views)
        return FeatureReader(self._ctx.online, self._ctx.namespace, self._features, self._ctx.specs)

    @cached_property
    def _asking(self) -> StreamSpec | None:
        name = asking_stream(self._features)
        return None if name is None else self._ctx.specs.get(StreamSpec, name)

    @cached_property
    def _types(self) -> dict[str, FieldType]:
        return field_types(self._ctx.specs, asking_stream(self._features))

    def _begin(self, body: bytes, key: str | None) -> asyncio.Future[Values]:
        """Reading again is harmless, so `key` is not looked at."""
        answer: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        answer.set_result(self.values(body))
        return answer

    def values(self, body: bytes) -> Values:
        """InvalidInput for a request that lacks a field or has one of another type, and for more than MOST_REQUESTS; NotFound
        for a field that no stream has."""
        try:
            asked = _questions.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"the body is not `{FORM}`: {error}", hint=f"send {FORM}") from None
        if len(asked.requests) > MOST_REQUESTS:
            raise InvalidInput(
                f"{len(asked.requests)} requests; allowed: {MOST_REQUESTS}", hint="send fewer in one body", field="requests"
            )
        moment = self._ctx.clock.now() if asked.at is None else parse_time(asked.at)
        asks = [Ask(self._typed(place, request, moment), moment, None) for place, request in enumerate(asked.requests)]
        rows: list[FeatureRow] = []
        for place, row in enumerate(self._reader.read_many(asks)):
            if isinstance(row, HeadraceError):
                raise InvalidInput(f"request {place}: {row.message}", hint=row.hint, field=row.field)
            rows.append(row)
        views = [view.name for view in self._features.views]
        ages = {view: [None if (age := row.age[view]) is None else age / SECOND for row in rows] for view in views}
        given = [row.given(self._features) for row in rows] if rows and rows[0].texts else [row.values.tolist() for row in rows]
        return Values(format_time(moment), self._features.given, given, ages)

    def _typed(self, place: int, request: Mapping[str, Any], moment: int) -> dict[str, Any]:
        """The request with its times as microseconds; one without a time of its own has the asking time."""
        row: dict[str, Any] = {} if self._asking is None else {self._asking.time: moment}
        for name, value in request.items():
            kind = self._types.get(name)
            if kind is None:
                raise NotFound.of("field", name, self._types)
            if value is None or type(value) is _TYPES.get(kind):
                row[name] = value
            elif kind == "float" and type(value) is int:
                row[name] = float(value)
            elif kind == "datetime" and type(value) is str:
                row[name] = parse_time(value)
            else:
                raise InvalidInput(f"request {place}: `{name}` is `{kind}`, not `{value}`", hint="mend the value", field=name)
        return row
