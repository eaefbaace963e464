"""Registered versions as the serving process loads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import serving_world
from serving_world import FEATURES, SPECS, half_broken_model, linear_model, service

from headrace.features.types import FeatureSet
from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.kernel.specs import Specs
from headrace.registry.runtimes import load_runtime
from headrace.registry.tables import VERSIONS
from headrace.registry.versions import register, version
from headrace.serving.loading import counted_by, load_version

WEIGHTS = [0.01, -0.02, 0.3, 0.2, 0.001, 0.002]


def registered(make_context: Any, tmp_path: Path, artifact: bytes) -> Any:
    path = tmp_path / "model.onnx"
    path.write_bytes(artifact)
    ctx = replace(make_context(SPECS), file=serving_world.__file__)
    register(ctx, "quiet", artifact=path)
    return ctx


def test_a_registered_artifact_is_checked_and_scores_its_own_columns(make_context: Any, tmp_path: Path) -> None:
    ctx = registered(make_context, tmp_path, linear_model(WEIGHTS))
    loaded = load_version(ctx, service, 1)
    row = np.arange(6.0)
    expected = [(load_runtime("onnx", linear_model(WEIGHTS)).score(row.reshape(1, -1))[0], None)]
    assert loaded.score([row]) == expected
    assert loaded.inputs.columns == FEATURES and loaded.number == 1
    assert set(counted_by(ctx, service, 1).reference.features) == set(FEATURES)

    sources = service.model.features.sources
    reordered = replace(service.model, features=FeatureSet((*sources[1:], sources[0])))
    others = [spec for spec in SPECS.everything() if spec.kind != "model"]
    elsewhere = load_version(replace(ctx, specs=Specs([*others, reordered])), replace(service, model=reordered), 1)
    assert (elsewhere.inputs.columns, elsewhere.inputs.meaning) == (FEATURES, loaded.inputs.meaning)
    less = Specs([spec for spec in others if spec.name != "customer"])
    with pytest.raises(InvalidInput, match="another definition of `customer`"):
        load_version(replace(ctx, specs=less), service, 1)

    golden = msgspec.json.decode(ctx.blobs.get(ctx.system, version(ctx, "quiet", 1).golden))
    golden["scores"][3] += 0.001
    digest = ctx.blobs.put(ctx.system, msgspec.json.encode(golden))
    with ctx.catalog.transaction() as connection:
        facts = {**connection.execute(VERSIONS.select()).one().facts, "golden": digest}
        connection.execute(VERSIONS.update().values(facts=facts))
    with pytest.raises(CheckFailed, match="golden row 3"):
        load_version(ctx, service, 1)


def test_a_model_that_fails_on_some_rows_can_be_released(make_context: Any, tmp_path: Path) -> None:
    ctx = registered(make_context, tmp_path, half_broken_model())
    loaded = load_version(ctx, service, 1)
    scores = loaded.score([np.full(6, 10.0), np.full(6, 30.0)])
    assert scores[0][0] is None and scores[1] == (0.5, None)
