"""The join of predictions with labels that arrive late."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from headrace.data.history import history
from headrace.data.positions import watermark
from headrace.engines.context import Context
from headrace.features.frames import DTYPES
from headrace.features.labels import label_rows
from headrace.kernel.times import DAY
from headrace.serving.reading import prediction_records
from headrace.serving.types import LIVE, PredictionRecord, ServiceSpec
from headrace.statistics.metrics import average_precision, log_loss

CERTAIN = 0.001
"""Where losses are compared, scores are cut to [0.001, 0.999]: one row can't decide."""


def known_until(ctx: Context, service: ServiceSpec, now: int) -> int:
    """The event time up to which the service's labels are known at `now`: that of the newest event applied of the stream
    that tells them. A stream that is late or silent makes labels immature, not negative. -1 when nothing has come."""
    known = watermark(ctx, service.model.label.stream)
    return -1 if known is None else min(now, known)


def labelled(ctx: Context, service: ServiceSpec, records: Sequence[PredictionRecord], *, known_at: int) -> pl.DataFrame:
    """One row a record, in order: at (Int64 microseconds), version, entity, score, label (Int8), mature: whether the label is
    known at event time `known_at`.
    """
    asking = _asking(service, records)
    label = service.model.label
    value, mature = label_rows(label, asking, {label.stream: history(ctx, label.stream)}, ctx.specs, known_at=known_at)
    told = pl.DataFrame(
        [(r.at, r.version, r.entity, r.score) for r in records], orient="row",
        schema={"at": pl.Int64, "version": pl.Int64, "entity": pl.String, "score": pl.Float64},
    )  # fmt: skip
    return told.with_columns(value.alias("label"), pl.Series("mature", mature, pl.Boolean))


def _asking(service: ServiceSpec, records: Sequence[PredictionRecord]) -> pl.DataFrame:
    """The records' requests as asking rows."""
    columns = []
    for field in service.request:
        dtype = DTYPES[field.type]
        raw = pl.Int64() if field.type == "datetime" else dtype
        columns.append(pl.Series(field.name, [r.request.get(field.name) for r in records], raw).cast(dtype))
    at = pl.Series("_at", [r.at for r in records], pl.Int64).cast(DTYPES["datetime"])
    return pl.DataFrame([*columns, at, pl.Series("_own", [-1] * len(records), pl.Int64)])


def cohorts(ctx: Context, service: ServiceSpec, *, start: int, end: int, known_at: int) -> pl.DataFrame:
    """Live answers with start <= asking time < end by asking day and version: day (since 1970), version, predictions, coverage
    (share with a mature label), positives, log_loss and average_precision of the mature ones (null without)."""
    records = [
        r for _, r in prediction_records(ctx, service.name) if r.role in LIVE and r.score is not None and start <= r.at < end
    ]
    frame = labelled(ctx, service, records, known_at=known_at).with_columns((pl.col("at") // DAY).alias("day"))
    rows = []
    for (day, version), group in frame.group_by(["day", "version"], maintain_order=True):
        mature = group.filter(pl.col("mature"))
        labels, scores = mature["label"].to_numpy(), mature["score"].to_numpy()
        figures = (int(labels.sum()), log_loss(labels, scores), average_precision(labels, scores))
        rows.append((day, version, group.height, mature.height / group.height, *figures))
    schema = {
        "day": pl.Int64, "version": pl.Int64, "predictions": pl.Int64, "coverage": pl.Float64, "positives": pl.Int64,
        "log_loss": pl.Float64, "average_precision": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None).sort("day", "version")
