"""Tables of features: a model's training set, and values as known at a time, of every key or of given rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from headrace.data.files import check_out, write_table
from headrace.data.history import history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.backfill import backfill, streams_of
from headrace.features.frames import DTYPES
from headrace.features.requests import field_types
from headrace.features.training_set import training_set
from headrace.features.types import FeatureSet, RequestFeatures, RequestField
from headrace.kernel.errors import InvalidInput, UsageError
from headrace.kernel.times import parse_time
from headrace.system.feature_catalogue import feature_set, readable
from headrace.system.types import ExportedFeatures
from headrace.training.types import ModelSpec

INSTANT = DTYPES["datetime"]


def training_table(ctx: Context, model: str, *, start: str, end: str, known_at: str | None) -> pl.DataFrame:
    """The training set for asking times from `start` to before `end`, with the labels mature at `known_at`, by default now."""
    spec = ctx.specs.get(ModelSpec, model)
    if parse_time(start) >= parse_time(end):
        raise InvalidInput(f"no time is from {start} to before {end}", hint="give the earlier time first", field="start")
    return training_set(ctx, spec, start=parse_time(start), end=parse_time(end), known_at=_moment(ctx, known_at))


def export(ctx: Context, name: str, out: Path, *, start: str | None, end: str | None, known_at: str | None) -> ExportedFeatures:
    """Write Parquet: of a model its `training_table`; of a view its values for every key known at `known_at`, asked then."""
    is_model = any(model.name == name for model in ctx.specs.all(ModelSpec))
    if is_model and (start is None or end is None):
        raise UsageError(f"the training set of `{name}` needs a time", hint="give `--from` and `--to`")
    if not is_model and (start is not None or end is not None):
        raise UsageError(f"`{name}` is no model: its values are asked at one time", hint="give `--known-at` alone")
    check_out(out)
    if start is not None and end is not None:
        frame = training_table(ctx, name, start=start, end=end, known_at=known_at)
    else:
        frame = values_of_keys(ctx, name, known_at)
    write_table(frame, out)
    return ExportedFeatures(str(out), frame.height, frame.columns)


def _moment(ctx: Context, at: str | None) -> int:
    return ctx.clock.now() if at is None else parse_time(at)


def values_of_keys(ctx: Context, name: str, at: str | None) -> pl.DataFrame:
    """The values of a view for each of its keys that an event known at `at`, by default now, has, in order of the key."""
    features, moment = feature_set(ctx.specs, name), _moment(ctx, at)
    view = next((view for view in features.views if view.name == name), None)
    if view is None:
        raise UsageError(f"`{name}` is no view: it has values of requests only", hint="name a view, or give rows")
    stream = ctx.specs.get(StreamSpec, view.stream)
    frames = {needed: history(ctx, needed) for needed in streams_of(features)}
    known = frames[stream.name].filter((pl.col(stream.time).to_physical() <= moment) & (pl.col("_created") <= moment))
    keys = known.select(view.by).drop_nulls().unique().sort(view.by) if view.by else pl.DataFrame({"": [0]}).select()
    count = keys.height if view.by else 1
    times = pl.Series(stream.time, [moment] * count, pl.Int64).cast(INSTANT)
    asking = pl.DataFrame([*keys.get_columns(), times, times.alias("_at"), pl.Series("_own", [-1] * count, pl.Int64)])
    rows = backfill(features, asking, frames, ctx.specs, spine=None)
    return rows.select(*view.by, stream.time, *(column for column in features.given if column not in view.by))


def values_of_rows(ctx: Context, name: str, rows: pl.DataFrame, at: str | None) -> pl.DataFrame:
    """`rows` with the features of a model, a view or a function: each row asked at its time column (named as in the asking
    stream, else `at`), or without one all at `at`, by default now, with what was known then. A row is a moment and no event:
    `own_event` adds nothing to it.

    InvalidInput for a column that is missing, of another type, or named as a feature.
    """
    features, stream = readable(ctx.specs, name)
    time = "at" if stream is None else ctx.specs.get(StreamSpec, stream).time
    if time in rows.columns and at is not None:
        raise InvalidInput(f"the rows have times of their own in `{time}`", hint="leave `at` out, or that column", field="at")
    if time not in rows.columns:
        rows = rows.with_columns(pl.lit(_moment(ctx, at), pl.Int64).cast(INSTANT).alias(time))
    computed = {c for source in features.sources if not isinstance(source, RequestField) for c in source.columns}
    taken = [column for column in rows.columns if column in computed or column.startswith("_")]
    if taken:
        raise InvalidInput(f"the rows have a column `{taken[0]}`, which is computed", hint="rename it", field=taken[0])
    asking = _typed(ctx, rows, stream, [time, *_needed(features, computed)])
    if asking[time].null_count():
        raise InvalidInput(f"`{time}` is null in {asking[time].null_count()} rows", hint="give each row a time", field=time)
    asking = asking.with_columns(pl.col(time).alias("_at"), pl.lit(-1, pl.Int64).alias("_own"))
    frames = {needed: history(ctx, needed) for needed in streams_of(features)}
    found = backfill(features, asking, frames, ctx.specs, spine=None)
    return found.select(*rows.columns, *(column for column in features.given if column in computed))


def _needed(features: FeatureSet, computed: set[str]) -> list[str]:
    """The columns that rows must have: keys, fields of the request, and what functions read that is not computed."""
    found = [key for view in features.views for key in view.by]
    found += [source.name for source in features.sources if isinstance(source, RequestField)]
    found += [name for source in features.sources if isinstance(source, RequestFeatures) for name in source.inputs]
    return [name for name in dict.fromkeys(found) if name not in computed]


def _typed(ctx: Context, rows: pl.DataFrame, stream: str | None, needed: list[str]) -> pl.DataFrame:
    """The rows with the needed columns in their declared types; the first is the time."""
    types = {needed[0]: "datetime", **field_types(ctx.specs, stream)}
    columns = []
    for name in dict.fromkeys(needed):
        if name not in rows.columns:
            raise InvalidInput(
                f"the rows have no column `{name}`; needed: {', '.join(f'`{n}`' for n in dict.fromkeys(needed[1:]))}",
                hint="add it", field=name,
            )  # fmt: skip
        try:
            columns.append(_instants(rows[name]) if types[name] == "datetime" else rows[name].cast(DTYPES[types[name]]))
        except PolarsError as error:
            raise InvalidInput(f"`{name}` is `{types[name]}`: {error}", hint="mend the column", field=name) from None
    return rows.with_columns(columns)


def _instants(column: pl.Series) -> pl.Series:
    """Times with microseconds in UTC; a naive time is UTC."""
    if column.dtype == pl.String:
        return column.str.to_datetime(time_unit="us", time_zone="UTC")
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        return column.dt.convert_time_zone("UTC").cast(INSTANT)
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
