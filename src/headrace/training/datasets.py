"""From declared features and labels to a pinned dataset version."""

from __future__ import annotations

from headrace.data.appending import stream_ends
from headrace.data.datasets import pin
from headrace.data.types import DatasetVersion, StreamSpec
from headrace.engines.context import Context
from headrace.features.training_set import training_set
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import DAY, format_time
from headrace.training.types import ModelSpec


def build_dataset(ctx: Context, model: str, *, start: int, end: int, known_at: int) -> DatasetVersion:
    """Pin the training set of `model`: asking times in [start, end), only labels mature at `known_at` (microseconds).

    Its `inputs` say how to build it again. CheckFailed when no row is trainable.
    """
    spec = ctx.specs.get(ModelSpec, model)
    frame = training_set(ctx, spec, start=start, end=end, known_at=known_at)
    if frame.is_empty():
        days = spec.label.within / DAY
        raise CheckFailed(
            f"no row of `{model}` with an asking time from {format_time(start)} to {format_time(end)} has a label that is "
            f"mature at {format_time(known_at)}",
            hint=f"a label matures {days:g} days after the asking time, and only where it has a value; choose an earlier "
            "`--to`, or wait",
        )
    inputs = {
        "model": model,
        "start": format_time(start),
        "end": format_time(end),
        "known_at": format_time(known_at),
        "features": list(spec.features.columns),
        "definitions": spec.features.definition_hashes,
        "streams": {s.name: sum(stream_ends(ctx, s.name)) for s in ctx.specs.all(StreamSpec)},
    }
    return pin(ctx, model, frame, inputs=inputs)
