from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pytest
from monitoring_world import START, opened, register
from onnx import TensorProto, helper

from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import CheckFailed
from headrace.kernel.times import DAY, MINUTE, format_time
from headrace.monitoring.comparing import compare, verdict
from headrace.statistics.bootstrap import Difference


def model(slope: float) -> bytes:
    """sigmoid(slope * (amount - 50) / 50 - 1), in ONNX."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [slope / 50, 0.0])
    bias = helper.make_tensor("b", TensorProto.FLOAT, [1], [-slope - 1])
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Sigmoid", ["z"], ["score"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])], [weights, bias],
    )  # fmt: skip
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return made


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """Twenty days of payments; large ones are frauds, reported seven days later. Version 2 knows it, 1 hardly does."""
    ctx = opened(tmp_path / "data")
    for number, slope in ((1, 0.05), (2, 2.0), (3, 2.0)):
        register(ctx, number, {}, model(slope))
    rng = np.random.default_rng(11)
    payments, reports = [], []
    for i in range(4000):
        at, amount = START + i * 20 * DAY // 4000, float(rng.exponential(50))
        payments.append({"tx_id": i, "at": format_time(at), "card": int(rng.integers(100)), "amount": amount})
        if rng.random() < 1 / (1 + np.exp(-(2 * (amount - 50) / 50 - 1))):
            reports.append({"tx_id": i, "at": format_time(at + 7 * DAY - MINUTE)})
    ctx.clock.set(START + 40 * DAY)
    for stream, rows in (("payment", payments), ("report", reports)):
        append_raw(ctx, stream, [msgspec.json.encode(row) for row in rows])
        StreamApplier(ctx, ctx.specs.get(StreamSpec, stream), []).step()
    return ctx


def test_the_better_version_passes_on_the_same_rows_and_the_worse_does_not(ctx: Context) -> None:
    window = {"start": START + 10 * DAY, "end": START + 13 * DAY, "known_at": START + 40 * DAY}
    better = compare(ctx, "scoring", 1, 2, **window)
    assert better.passed and better.rows == 600 and 100 < better.positives < 300
    assert better.log_loss["high"] < 0 and "better" in better.reason
    worse = compare(ctx, "scoring", 2, 1, **window)
    assert not worse.passed and worse.log_loss["estimate"] == pytest.approx(-better.log_loss["estimate"])
    same = compare(ctx, "scoring", 2, 3, **window)
    assert not same.passed and "not better" in same.reason
    facts = asdict(better)
    assert msgspec.json.decode(msgspec.json.encode(facts)) == facts
    ctx.clock.set(START + 41 * DAY)
    append_raw(ctx, "report", [msgspec.json.encode({"tx_id": n, "at": format_time(START + 14 * DAY)}) for n in range(4000)])
    StreamApplier(ctx, ctx.specs.get(StreamSpec, "report"), []).step()
    assert compare(ctx, "scoring", 1, 2, **window) == better, "what is told later was not known then"


def test_rows_without_both_labels_cannot_judge(ctx: Context) -> None:
    with pytest.raises(CheckFailed, match="labels of one kind only"):
        compare(ctx, "scoring", 1, 2, start=START + 30 * DAY, end=START + 31 * DAY, known_at=START + 40 * DAY)


def test_a_gain_in_one_figure_does_not_excuse_a_sure_loss_in_the_other() -> None:
    sure_gain, sure_loss, unsure = Difference(0.1, 0.05, 0.2), Difference(-0.1, -0.2, -0.05), Difference(0.01, -0.1, 0.1)
    assert verdict(sure_gain, unsure)[0]
    assert verdict(unsure, unsure)[0], "better by one estimate, surely worse by none"
    assert not verdict(sure_loss, sure_loss)[0]
    assert not verdict(sure_gain, sure_gain)[0], "a larger log loss"
    assert not verdict(Difference(-0.01, -0.1, 0.1), unsure)[0]
