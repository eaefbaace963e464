"""Why a prediction came out as it did: what answered, from which values, trained on what, approved by whom, and proved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import select

from headrace.data.history import history
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.routes import seen
from headrace.features.types import StoredView
from headrace.governance.predictions import LoggedPrediction, logged
from headrace.governance.types import FeatureValue, Why
from headrace.kernel.errors import NotFound
from headrace.kernel.times import SECOND, format_time
from headrace.ledger.proving import prove_record
from headrace.ledger.tables import OUTBOX
from headrace.monitoring.labels import labelled
from headrace.registry.declarations import definition_of
from headrace.registry.versions import version
from headrace.serving.types import PredictionRecord, ServiceSpec
from headrace.training.runs import run


def why(ctx: Context, prediction_id: str) -> Why:
    """The chain behind the prediction; NotFound for an id that no prediction log of the system has.

    The proof is of the record as it was logged: what is shown here of the prediction is what was logged.
    """
    found = logged(ctx, prediction_id)
    if found is None:
        raise NotFound(f"no prediction has the id `{prediction_id}`", hint="`headrace predictions export` lists them")
    record = found.record
    service = ctx.specs.get(ServiceSpec, record.service)
    model = version(ctx, service.model.name, record.version)
    trained = None if model.run is None else run(ctx, model.run)
    label = labelled(ctx, service, [record], known_at=ctx.clock.now()).row(0, named=True)
    return Why(
        prediction=_told(found),
        version=record.version,
        alias=record.role,
        features=list(_features(ctx, service, record)),
        dataset_version=None if trained is None else trained.dataset,
        code=None if trained is None else trained.code_hash,
        approved_by=_approver(ctx, record, model.name),
        label=bool(label["label"]) if label["mature"] else None,
        proof=prove_record(ctx, found.topic, found.offset),
    )


def _told(found: LoggedPrediction) -> dict[str, Any]:
    """What the log says of the answer and of the deployment that gave it."""
    record = found.record
    return {
        "id": record.id,
        "service": record.service,
        "at": format_time(record.at),
        "score": record.score,
        "entity": record.entity,
        "request": record.request,
        "rollout": record.rollout,
        "generation": record.generation,
        "topic": found.topic,
        "offset": found.offset,
    }


def _approver(ctx: Context, record: PredictionRecord, model: str) -> str | None:
    """Who last approved the version before the deployment that answered: later approvals had no part in it. The order is
    that of the audit records, which also tells apart what one instant of a virtual clock holds. None without either."""
    rows = select(OUTBOX.c.sequence, OUTBOX.c.payload, OUTBOX.c.actor_name).where(OUTBOX.c.system == ctx.system)
    rows = rows.order_by(OUTBOX.c.sequence.desc())
    deployed = rows.where(OUTBOX.c.kind == "deployment.changed", OUTBOX.c.subject == record.service)
    approved = rows.where(OUTBOX.c.kind == "registry.approve", OUTBOX.c.subject == f"{model}@{record.version}")
    with ctx.catalog.reading() as connection:
        for row in connection.execute(deployed):
            if msgspec.json.decode(row.payload)["generation"] == record.generation:
                approval = connection.execute(approved.where(OUTBOX.c.sequence < row.sequence).limit(1)).first()
                return None if approval is None else str(approval.actor_name)
    return None


def _features(ctx: Context, service: ServiceSpec, record: PredictionRecord) -> Iterator[FeatureValue]:
    """The logged values in model order. What comes from the request is as old as the request: 0."""
    ages: dict[str, float | None] = {}
    features = definition_of(ctx, service.model.name, record.version).features
    views = features.views
    frames = {stream: history(ctx, stream) for stream in {view.stream for view in views}}
    for view in views:
        stream = ctx.specs.get(StreamSpec, view.stream)
        ages |= dict.fromkeys(view.columns, _age(view, stream, frames[stream.name], record))
    for name, value in zip(features.columns, record.features, strict=False):
        yield FeatureValue(name, None if math.isnan(value) else value, ages.get(name, 0.0))


def _age(view: StoredView, stream: StreamSpec, events: pl.DataFrame, record: PredictionRecord) -> float | None:
    """Seconds between the asking time and the newest event of the key that the window could count at the logged
    position: not after the asking time less the delay, and not the asking event itself. None without one."""
    time = pl.col(stream.time).dt.epoch("us")
    events = events.filter(seen(record.positions.get(view.name, {}), stream), time <= record.at - view.delay)
    for column in view.by:
        events = events.filter(pl.col(column) == record.request.get(column))
    if record.own_id is not None:
        events = events.filter(pl.col(stream.id).cast(pl.String) != record.own_id)
    if events.is_empty():
        return None
    return (record.at - int(events.select(time.max()).item())) / SECOND
