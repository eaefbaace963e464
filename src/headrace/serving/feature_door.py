"""`/features/{name}/read`: the values of features for some requests, from the online store, as an application asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec

from headrace.data.types import FieldType, StreamSpec
from headrace.engines.context import Context
from headrace.features.arriving import check_built
from headrace.features.given_values import GivenValues, Value
from headrace.features.online import FeatureReader
from headrace.features.requests import Readable, field_types
from headrace.features.types import Ask, FeatureRow
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

    requests: list[dict[str, str | Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | float | bool | None]]
    at: str | None = None


class Values(msgspec.Struct):
    """The answer: for each request a row of `values` in the order of `columns`; `age_s` of each view and request:
    seconds since its newest event of the key."""

    at: str
    columns: tuple[str, ...]
    values: Sequence[Sequence[Value]]
    age_s: dict[str, list[float | None]]


_questions = msgspec.json.Decoder(Questions)


class FeatureDoor:
    """The features of one model, view or function."""

    def __init__(self, ctx: Context, given: Readable) -> None:
        self._ctx = ctx
        self._features, self._asking = given
        self.read = Door(self._begin, encode, Permission.READ)

    @cached_property
    def _reader(self) -> FeatureReader:
        """NotReady while a view is being built."""
        check_built(self._ctx, self._features.views)
        return FeatureReader(self._ctx.online, self._ctx.namespace, self._features, self._ctx.specs, asking=self._asking)

    @cached_property
    def _time(self) -> str | None:
        """The field with the asking time."""
        return None if self._asking is None else self._ctx.specs.get(StreamSpec, self._asking).time

    @cached_property
    def _types(self) -> dict[str, FieldType]:
        return field_types(self._ctx.specs, self._asking)

    @cached_property
    def _taken(self) -> dict[str, type]:
        """The type of the values of a field that are taken as they are."""
        return {name: _TYPES[kind] for name, kind in self._types.items() if kind in _TYPES}

    @cached_property
    def _given(self) -> GivenValues:
        return GivenValues(self._features, self._ctx.specs, self._types)

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
        asks = [Ask(request, moment, None) for request in self._typed(asked.requests, moment)]
        rows: list[FeatureRow] = []
        for place, row in enumerate(self._reader.read_many(asks)):
            if isinstance(row, HeadraceError):
                raise InvalidInput(f"request {place}: {row.message}", hint=row.hint, field=row.field)
            rows.append(row)
        views = [view.name for view in self._features.views]
        ages = {view: [None if (age := row.age[view]) is None else age / SECOND for row in rows] for view in views}
        return Values(format_time(moment), self._features.given, self._given.of(rows), ages)

    def _typed(self, requests: Sequence[dict[str, Any]], moment: int) -> list[dict[str, Any]]:
        """The requests with their times as microseconds; one without a time of its own has the asking time."""
        taken, own = self._taken, {} if self._time is None else {self._time: moment}
        rows = [{**own, **request} for request in requests]
        for place, (request, row) in enumerate(zip(requests, rows, strict=True)):
            for name, value in request.items():
                if type(value) is not taken.get(name):
                    row[name] = self._converted(place, name, value)
        return rows

    def _converted(self, place: int, name: str, value: Any) -> Any:
        kind = self._types.get(name)
        if kind is None:
            raise NotFound.of("field", name, self._types)
        if value is None:
            return None
        if kind == "float" and type(value) is int:
            return float(value)
        if kind == "datetime" and type(value) is str:
            return parse_time(value)
        raise InvalidInput(f"request {place}: `{name}` is `{kind}`, not `{value}`", hint="mend the value", field=name)
