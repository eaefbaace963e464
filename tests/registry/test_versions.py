from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper
from shop_training import END, KNOWN, START, VISITS, shop
from sqlalchemy import select

from headrace.data.datasets import load
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound, UsageError
from headrace.kernel.identity import Principal, Role
from headrace.ledger.tables import OUTBOX
from headrace.registry import lineage
from headrace.registry.operations import register as register_operation
from headrace.registry.runtimes import load_runtime
from headrace.registry.types import ModelVersion
from headrace.registry.versions import approvals, approve, parameters, register, version, versions
from headrace.statistics.histograms import bin_counts, quantile_edges
from headrace.training.datasets import build_dataset
from headrace.training.evaluation import evaluate
from headrace.training.runs import Inputs, recording, run
from headrace.training.training import train


def failing_graph(features: int, *, fails_above: float = 20.0) -> bytes:
    """rows -> probabilities [n, 1]: 0.25, and an error for a call with a row whose first feature is larger."""
    nodes = [
        helper.make_node("Gather", ["rows", "first"], ["pages"], axis=1),
        helper.make_node("Less", ["pages", "limit"], ["small"]),
        helper.make_node("Cast", ["small"], ["index"], to=TensorProto.INT64),
        helper.make_node("Sub", ["index", "one"], ["outside"]),
        helper.make_node("Mul", ["outside", "hundred"], ["far"]),
        helper.make_node("Gather", ["values", "far"], ["probabilities"], axis=0),
    ]
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("limit", TensorProto.FLOAT, [1], [fails_above]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("hundred", TensorProto.INT64, [1], [100]),
        helper.make_tensor("values", TensorProto.FLOAT, [1], [0.25]),
    ]
    graph = helper.make_graph(
        nodes, "failing", [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@dataclass
class Registered:
    ctx: Context
    dataset: str
    boosting: ModelVersion
    by_time: ModelVersion
    failing: ModelVersion
    path: Path
    refused: BaseException | None


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    folder = tmp_path_factory.mktemp("shop")
    path, wrong = folder / "failing.onnx", folder / "wrong.onnx"
    path.write_bytes(failing_graph(4))
    wrong.write_bytes(failing_graph(7))
    with shop(folder / "data") as ctx, ThreadPoolExecutor(2) as pool:
        dataset = build_dataset(ctx, "boosting", start=START, end=END, known_at=KNOWN).ref

        def made(model: str) -> ModelVersion:
            ref = build_dataset(ctx, model, start=START, end=END, known_at=KNOWN).ref
            trained = train(ctx, model, ref, seed=3).id
            if model == "by_time":
                evaluate(ctx, trained, start=START, end=(START + END) // 2, known_at=KNOWN, history_start=START)
            return register(ctx, model, run=trained)

        boosting, by_time = pool.map(made, ("boosting", "by_time"))
        failing, again = (pool.submit(register, ctx, "boosting", artifact=path) for _ in range(2))
        refused = pool.submit(register, ctx, "boosting", artifact=wrong)
        assert again.result() == failing.result(), "two who register at once have one version"
        yield Registered(ctx, dataset, boosting, by_time, failing.result(), path, refused.exception())


def blob(ctx: Context, digest: str) -> Any:
    return msgspec.json.decode(ctx.blobs.get(ctx.system, digest))


def matrix(registered: Registered) -> np.ndarray:
    frame = load(registered.ctx, registered.dataset)
    return frame.select(registered.boosting.features).cast(float).to_numpy()


def test_a_run_becomes_a_proved_version_with_its_facts(registered: Registered) -> None:
    ctx, made = registered.ctx, registered.boosting
    assert (made.name, made.number, made.engine, made.dataset) == ("boosting", 1, "onnx", registered.dataset)
    assert made.features == ("pages", "amount", "customer_count_1d", "customer_amount_1d")
    assert set(made.definition_hashes) == {"customer"}
    assert made.proof is not None and made.proof.passed and made.proof.rows == VISITS >= 10_000
    assert made.proof.threshold_rows > 100
    assert made.run is not None and made.metrics.items() >= run(ctx, made.run).metrics.items()
    assert 0 < made.metrics["cross_fitted.log_loss"] < 0.7
    assert parameters(ctx, made) == {"num_leaves": 15, "learning_rate": 0.1, "boost": "gbdt"}
    assert version(ctx, "boosting", 1) == made


def test_a_model_that_fails_the_proof_is_served_natively(registered: Registered) -> None:
    made = registered.by_time
    assert made.engine == "lightgbm" and made.proof is not None
    assert not made.proof.passed and made.proof.max_difference > 0.01 and made.proof.native_difference == 0.0
    assert b"tree_sizes" in registered.ctx.blobs.get("shop", made.artifact)


def test_golden_rows_are_real_rows_with_the_scores_of_what_serves(registered: Registered) -> None:
    golden = blob(registered.ctx, registered.boosting.golden)
    rows = np.array([[np.nan if v is None else v for v in row] for row in golden["rows"]])
    assert rows.shape == (32, 4)
    real = {row.tobytes() for row in np.nan_to_num(matrix(registered), nan=-1.0)}
    assert all(row.tobytes() in real for row in np.nan_to_num(rows, nan=-1.0))
    runtime = load_runtime("onnx", registered.ctx.blobs.get("shop", registered.boosting.artifact))
    assert golden["scores"] == [runtime.score(row.reshape(1, -1)).item() for row in rows]


def test_the_reference_is_of_the_training_rows_and_of_scores_in_the_test_window(registered: Registered) -> None:
    reference = blob(registered.ctx, registered.boosting.reference)
    rows = matrix(registered)
    assert list(reference["features"]) == list(registered.boosting.features)
    for column, histogram in enumerate(reference["features"].values()):
        edges = quantile_edges(rows[:, column])
        assert np.array_equal(histogram["edges"], edges)
        assert np.array_equal(histogram["counts"], bin_counts(rows[:, column], edges))
    assert reference["score"] is None, "a run that was never tested has no scores of rows it has not seen"
    tested = blob(registered.ctx, registered.by_time.reference)["score"]
    scores = np.frombuffer(
        registered.ctx.blobs.get("shop", digest_of_test_scores(registered.by_time, registered.ctx)), np.float64
    )
    assert 0 < len(scores) < VISITS
    assert np.array_equal(tested["counts"], bin_counts(scores, np.array(tested["edges"])))


def digest_of_test_scores(made: ModelVersion, ctx: Context) -> str:
    """The digest of the test scores of the run that was registered."""
    assert made.run is not None
    return run(ctx, made.run).artifacts["test_scores"]


def test_an_artifact_from_a_file_is_a_version_without_proof_judged_on_rows_it_answers(registered: Registered) -> None:
    made = registered.failing
    assert (made.number, made.engine, made.proof, made.run, made.dataset, made.metrics) == (2, "onnx", None, None, None, {})
    golden = blob(registered.ctx, made.golden)
    assert len(golden["rows"]) == 32 and set(golden["scores"]) == {0.25}
    assert max(row[0] for row in golden["rows"]) < 20
    counts = blob(registered.ctx, made.reference)["features"]["pages"]["counts"]
    assert sum(counts) == VISITS
    assert parameters(registered.ctx, made) == {}


def test_a_graph_of_other_width_is_refused(registered: Registered) -> None:
    assert isinstance(registered.refused, CheckFailed)
    assert "answers none" in str(registered.refused) and "pages, amount" in registered.refused.hint


def test_registering_the_same_again_is_the_same_version(registered: Registered) -> None:
    ctx = registered.ctx
    assert register(ctx, "boosting", run=registered.boosting.run) == registered.boosting
    assert register_operation(ctx, model="boosting", artifact=registered.path).version == 2
    assert [v.number for v in versions(ctx, "boosting")] == [2, 1]


def test_lineage_leads_from_a_version_to_streams_and_code(registered: Registered) -> None:
    edges = lineage.ancestors(registered.ctx, "model:boosting@1")
    made, trained = registered.boosting, run(registered.ctx, str(registered.boosting.run))
    parents = {edge.parent for edge in edges}
    assert {f"run:{made.run}", f"dataset:{made.dataset}", f"code:{trained.code_hash}", "stream:visit"} <= parents
    assert f"features:customer@{made.definition_hashes['customer']}" in parents
    assert lineage.ancestors(registered.ctx, "model:boosting@99") == []


def test_an_approval_says_who_when_and_why_and_is_in_the_outbox(registered: Registered) -> None:
    ctx = registered.ctx.acting(Principal("k1", "olga", Role.OPERATOR))
    assert registered.boosting.approved_by is None
    assert approve(ctx, "boosting", 1, "better on the test week").approved_by == "olga"
    (approval,) = approvals(ctx, "boosting", 1)
    assert (approval.by, approval.reason) == ("olga", "better on the test week")
    assert version(ctx, "boosting", 2).approved_by is None
    with pytest.raises(InvalidInput, match="reason"):
        approve(ctx, "boosting", 1, " ")
    with pytest.raises(NotFound, match="`boosting` has no version 3; known: 1, 2"):
        approve(ctx, "boosting", 3, "why not")
    with ctx.catalog.reading() as connection:
        kinds = connection.execute(select(OUTBOX.c.kind, OUTBOX.c.subject, OUTBOX.c.actor_name)).all()
    assert ("registry.approve", "boosting@1", "olga") in kinds
    assert {
        ("registry.register", f"{name}@{n}", "local") for name, n in (("boosting", 1), ("boosting", 2), ("by_time", 1))
    } <= set(map(tuple, kinds))


def test_wrong_uses_are_refused(registered: Registered, tmp_path: Path) -> None:
    ctx = registered.ctx
    with pytest.raises(UsageError, match="run or of an artifact"):
        register(ctx, "boosting")
    with pytest.raises(NotFound, match="known"):
        register(ctx, "bosting", run="0")
    with pytest.raises(NotFound, match="unknown run"):
        register(ctx, "boosting", run="0")
    with pytest.raises(InvalidInput, match="trained `boosting`, not `linear`"):
        register(ctx, "linear", run=registered.boosting.run)
    with pytest.raises(NotFound, match="no file"):
        register(ctx, "boosting", artifact=tmp_path / "absent.onnx")
    with pytest.raises(CheckFailed, match="no estimator"), recording(ctx, Inputs("boosting", "d@0", "c", 0, {})) as running:
        register(ctx, "boosting", run=running)
