"""The golden answers: each version's artifact, asked anew about the features that were logged."""

from __future__ import annotations

import polars as pl
from door import Door

from headrace.registry.runtimes import load_runtime


def golden_scores(door: Door, logged: pl.DataFrame) -> dict[tuple[str, int], float]:
    """(prediction id, version) -> the score of the version's artifact for the logged features, one row at a time as the
    service scores them."""
    found: dict[tuple[str, int], float] = {}
    for (number,), rows in logged.group_by("version"):
        version = door.get(f"/registry/boosting/versions/{number}")["model"]
        digest = version["artifact"]
        artifact = (door.data / "blobs" / "fraud" / digest[:2] / digest).read_bytes()
        runtime = load_runtime(version["engine"], artifact)
        matrix = rows.select(version["features"]).fill_null(float("nan")).to_numpy()
        for identifier, row in zip(rows["prediction_id"].to_list(), matrix, strict=True):
            found[identifier, version["number"]] = float(runtime.score(row[None, :])[0])
    return found
