"""Doors that answer with a table as Parquet: training sets, features as known at a time, predictions."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, Any

import polars as pl
from fastapi import Query
from polars.exceptions import PolarsError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.app.routes import Door, check_query
from headrace.engines.context import Context
from headrace.kernel.errors import InvalidInput
from headrace.kernel.identity import Permission
from headrace.serving.reading import predictions_frame
from headrace.system.feature_tables import training_table, values_of_keys, values_of_rows

PARQUET = "application/vnd.apache.parquet"
Text = Annotated[str | None, Query()]


def to_parquet(frame: pl.DataFrame) -> bytes:
    """The frame as the content of a Parquet file."""
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="lz4", statistics=False)
    return buffer.getvalue()


def from_parquet(content: bytes) -> pl.DataFrame:
    """The frame in the content of a Parquet file; InvalidInput when it is none."""
    try:
        return pl.read_parquet(content)
    except PolarsError as error:
        raise InvalidInput(f"the body is no Parquet file: {error}", hint=f"send rows as {PARQUET}") from None


def _table(frame: pl.DataFrame) -> Response:
    return Response(to_parquet(frame), media_type=PARQUET)


def _training_set(
    request: Request, model: str, start: Annotated[str, Query()], end: Annotated[str, Query()], known_at: Text = None
) -> Response:
    check_query(request, ("start", "end", "known_at"))
    return _table(training_table(request.state.ctx, model, start=start, end=end, known_at=known_at))


async def _features_at(request: Request, name: str, at: Text = None) -> Response:
    """The body is a Parquet file of rows; without one, every known key of a view is asked."""
    check_query(request, ("at",))
    content = await request.body()
    return await run_in_threadpool(_values, request.state.ctx, name, at, content)


def _values(ctx: Context, name: str, at: str | None, content: bytes) -> Response:
    return _table(values_of_rows(ctx, name, from_parquet(content), at) if content else values_of_keys(ctx, name, at))


def _predictions(request: Request, service: str) -> Response:
    check_query(request, ())
    return _table(predictions_frame(request.state.ctx, service))


def _described(summary: str, **more: Any) -> dict[str, Any]:
    answer = {"200": {"description": "A Parquet file.", "content": {PARQUET: {}}}}
    return {"summary": summary, "openapi_extra": {"responses": answer, **more}}


_SET = _described("A model's training set.")
_AT = _described("Features as known at a time.", requestBody={"required": False, "content": {PARQUET: {}}})
_LOG = _described("The prediction log of a service.")
TABLES = (
    Door("GET", "/api/v1/models/{model}/training-set", Permission.READ, _training_set, _SET),
    Door("POST", "/api/v1/features/{name}/at", Permission.READ, _features_at, _AT),
    Door("GET", "/api/v1/services/{service}/predictions", Permission.READ, _predictions, _LOG),
)
