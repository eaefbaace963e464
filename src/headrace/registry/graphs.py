"""From a fitted estimator to an ONNX graph with one input [n, features] and one output, `score` float32 [n].

Traps that are handled here, with onnx 1.23, skl2onnx 1.20 and onnxmltools 1.16: ZipMap off; LightGBM inside a Pipeline has
no converter, so the steps before the model are converted on their own; the converters name different operator sets;
onnxmltools rounds LightGBM's thresholds to the nearest float32, which may lie above (scikit-learn's are rounded down).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, compose, helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.pipeline import Pipeline

from headrace.registry.types import INPUT, SCORE

OPSET, ML_OPSET, IR_VERSION = 15, 3, 8


def onnx_graph(estimator: Any, features: int, *, wide: bool) -> bytes:
    """The serialised graph. `wide`: the steps before the model work in float64, as in scikit-learn, and only the model
    in float32, as scikit-learn's trees do; the input is then float64. Raises whatever the converters raise."""
    head, model = split(estimator)
    if head is None:
        graph = _model_graph(model, features).graph
    else:
        before = compose.add_prefix(_head_graph(head, features, wide=wide), "head/").graph
        graph = _model_graph(model, _width(before, features)).graph
        _join(before, graph, wide=wide)
    _score_only(graph)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="headrace")
    content: bytes = made.SerializeToString()
    return content


def split(estimator: Any) -> tuple[Any, Any]:
    """The steps before the model (None without any), and the model itself."""
    if not isinstance(estimator, Pipeline):
        return None, estimator
    steps = [(name, step) for name, step in estimator.steps if step not in (None, "passthrough")]
    return (Pipeline(steps[:-1]) if len(steps) > 1 else None), steps[-1][1]


def _head_graph(head: Any, features: int, *, wide: bool) -> ModelProto:
    kind = DoubleTensorType if wide else FloatTensorType
    made: ModelProto = convert_sklearn(
        head, initial_types=[(INPUT, kind([None, features]))], target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET}
    )
    return made


def _model_graph(model: Any, features: int) -> ModelProto:
    if isinstance(model, LGBMClassifier):
        return _lightgbm_graph(model, features)
    made: ModelProto = convert_sklearn(
        model, initial_types=[(INPUT, FloatTensorType([None, features]))], options={id(model): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    )  # fmt: skip
    return made


def _lightgbm_graph(model: Any, features: int) -> ModelProto:
    made: ModelProto = convert_lightgbm(
        model, initial_types=[(INPUT, LightGbmFloats([None, features]))], zipmap=False, target_opset=OPSET
    )
    below: dict[tuple[int, float], float] = {}
    for feature, threshold in lightgbm_thresholds(model):
        below.setdefault((feature, float(np.float32(threshold))), float32_below(threshold))
    for node in made.graph.node:
        if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor"):
            _round_down(node, below)
    return made


def _round_down(node: NodeProto, below: Mapping[tuple[int, float], float]) -> None:
    """Replace each threshold by the largest float32 that is not above the fitted one: then x <= threshold is decided as
    in the fitted model for every float32 x."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    modes, features = attributes["nodes_modes"].strings, attributes["nodes_featureids"].ints
    values = attributes["nodes_values"].floats
    for at, (mode, feature, value) in enumerate(zip(modes, features, list(values), strict=True)):
        if mode == b"BRANCH_LEQ":
            values[at] = below.get((feature, value), value)


def float32_below(value: float) -> float:
    """The largest float32 that is not above `value`."""
    with np.errstate(over="ignore"):
        near = np.float32(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def lightgbm_thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """(feature, threshold) of every numeric split of a fitted LGBMClassifier."""
    waiting = [tree["tree_structure"] for tree in model.booster_.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            waiting += [node["left_child"], node["right_child"]]
            if node["decision_type"] == "<=":
                yield node["split_feature"], float(node["threshold"])


def _width(graph: GraphProto, features: int) -> int:
    """How many columns the head gives."""
    dimensions = graph.output[0].type.tensor_type.shape.dim
    return dimensions[1].dim_value or features


def _join(before: GraphProto, graph: GraphProto, *, wide: bool) -> None:
    """Put the nodes of `before` in front of the model's, with a cast to float32 between."""
    names = [before.output[0].name], [INPUT]
    cast = helper.make_node("Cast", *names, to=TensorProto.FLOAT) if wide else helper.make_node("Identity", *names)
    nodes = [*before.node, cast, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(before.initializer)
    del graph.input[:]
    graph.input.extend(before.input)


def _score_only(graph: GraphProto) -> None:
    """Leave one output, the last column of `probabilities`, and only the nodes that it needs."""
    (probabilities,) = [output.name for output in graph.output if output.name.startswith("prob")]
    graph.initializer.append(helper.make_tensor("score/column", TensorProto.INT64, [], [1]))
    graph.node.append(helper.make_node("Gather", [probabilities, "score/column"], [SCORE], name="score/gather", axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [None]))
    needed, kept = {SCORE}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    initializers = [initializer for initializer in graph.initializer if initializer.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
