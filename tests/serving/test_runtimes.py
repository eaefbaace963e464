"""Runtimes give the library's own probabilities, and say what is wrong with an artifact."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from serving_world import FEATURES, constant_model, linear_model

from headrace.features.types import Ask, FeatureRow
from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.registry.runtimes import load_runtime
from headrace.serving.loading import Golden, Inputs, LoadedVersion, check_golden


class NoFeatures:
    """Of versions that only score here."""

    def read_many(self, asks: Sequence[Ask]) -> Sequence[FeatureRow]:
        raise NotImplementedError


UNREAD = Inputs((), "", NoFeatures())
RANDOM = np.random.default_rng(1)
ROWS = np.round(RANDOM.normal(size=(2000, 5)), 2)
ROWS[::50, 3] = np.nan
MODEL = LGBMClassifier(n_estimators=20, verbose=-1, random_state=0).fit(ROWS, (ROWS[:, 0] + ROWS[:, 1] > 0.5).astype(int))
TEXT = MODEL.booster_.model_to_string().encode()
EXPECTED = MODEL.predict_proba(ROWS)[:, 1]


def test_lightgbm_text_gives_the_bits_of_the_library() -> None:
    assert np.array_equal(load_runtime("lightgbm", TEXT).score(ROWS), EXPECTED)


def test_onnx_gives_the_positive_probability_within_the_proof() -> None:
    types = [("x", FloatTensorType([None, 5]))]
    artifact = convert_lightgbm(MODEL, initial_types=types, zipmap=False, target_opset=15).SerializeToString()
    assert np.abs(load_runtime("onnx", artifact).score(ROWS) - EXPECTED).max() < 1e-5


def test_serving_a_booster_loads_no_trainer_library(tmp_path: object) -> None:
    code = (
        "import sys; from headrace.registry.runtimes import load_runtime; import numpy\n"
        "score = load_runtime('lightgbm', sys.stdin.buffer.read()).score(numpy.zeros((1, 5)))\n"
        "print([m for m in ('lightgbm', 'sklearn', 'pandas', 'scipy') if m in sys.modules], len(score))"
    )
    seen = subprocess.run([sys.executable, "-c", code], input=TEXT, capture_output=True, check=True)
    assert seen.stdout.split() == [b"[]", b"1"]


@pytest.mark.parametrize(
    ("engine", "artifact", "words"),
    [
        ("onnx", b"no model", "not a loadable ONNX model"),
        ("lightgbm", b"no model", "LightGBM refuses"),
        ("pickle", b"", "unknown model engine `pickle`; known: onnx, lightgbm"),
    ],
)
def test_an_artifact_that_cannot_be_loaded_is_refused(engine: str, artifact: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        load_runtime(engine, artifact)


def test_a_booster_refuses_rows_of_another_width() -> None:
    with pytest.raises(InvalidInput, match="takes 5 features, not 4"):
        load_runtime("lightgbm", TEXT).score(ROWS[:, :4])


def test_golden_rows_find_a_changed_artifact() -> None:
    runtime = load_runtime("onnx", linear_model([0.5, -0.25]))
    rows = RANDOM.normal(size=(8, 2))
    golden = Golden(rows.tolist(), runtime.score(rows).tolist())
    check_golden(1, runtime, golden)
    with pytest.raises(CheckFailed, match="golden row 0"):
        check_golden(2, load_runtime("onnx", linear_model([0.5, -0.26])), golden)


def test_rows_scored_together_get_the_bits_that_they_get_alone() -> None:
    """A matrix product may add in another order for several rows; such a model is scored row by row."""
    weights = RANDOM.normal(size=40).tolist()
    rows = RANDOM.normal(size=(32, 40))
    for artifact in (linear_model(weights), TEXT):
        runtime = load_runtime("lightgbm" if artifact is TEXT else "onnx", artifact)
        matrix = ROWS[:32] if artifact is TEXT else rows
        independent = check_golden(1, runtime, Golden(matrix.tolist(), runtime.score(matrix).tolist()))
        version = LoadedVersion(1, runtime, UNREAD, independent=independent)
        assert version.score(list(matrix)) == [version.score([row])[0] for row in matrix]


@pytest.mark.parametrize("score", [float("nan"), 1.5, -0.1, float("inf")])
def test_a_score_that_is_no_probability_is_an_error(score: float) -> None:
    version = LoadedVersion(1, load_runtime("onnx", constant_model(score)), UNREAD)
    (found, error) = version.score([np.zeros(len(FEATURES))])[0]
    assert found is None
    assert error is not None and "outside [0, 1]" in error


def test_a_model_that_raises_is_an_error_of_the_row() -> None:
    version = LoadedVersion(1, load_runtime("onnx", linear_model([1.0, 2.0])), UNREAD)
    assert version.score([np.zeros(3)])[0][1] is not None
