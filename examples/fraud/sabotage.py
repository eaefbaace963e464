"""A challenger that fails on half of its requests: an ONNX graph like any other, but for its answers."""

from __future__ import annotations

from onnx import TensorProto, helper


def sabotaged_model(features: int) -> bytes:
    """float32 [n, `features`] -> probabilities [n, 1]: sigmoid((amount - 220) / 50), and NaN where the amount, which is
    the first feature, has an odd number of cents."""
    constants = {
        "first": [0],
        "hundred": [100.0],
        "two": [2.0],
        "half": [0.5],
        "limit": [220.0],
        "width": [50.0],
        "nan": [float("nan")],
    }
    kinds = {name: TensorProto.INT64 if name == "first" else TensorProto.FLOAT for name in constants}
    nodes = [
        ("Gather", ["features", "first"], "amount", {"axis": 1}),
        ("Mul", ["amount", "hundred"], "exact_cents", {}),
        ("Round", ["exact_cents"], "cents", {}),
        ("Mod", ["cents", "two"], "odd", {"fmod": 1}),
        ("Greater", ["odd", "half"], "fails", {}),
        ("Sub", ["amount", "limit"], "above", {}),
        ("Div", ["above", "width"], "scaled", {}),
        ("Sigmoid", ["scaled"], "fair", {}),
        ("Where", ["fails", "nan", "fair"], "probabilities", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "sabotaged",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor(name, kinds[name], [1], values) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found: bytes = model.SerializeToString()
    return found
