"""A small graph to quantise: four convolutions, an input's normalisation before and a sigmoid after them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ABOUT = {"net": "made"}
CONVOLUTIONS = ["first", "middle", "deep", "last"]
INPUTS = [np.random.default_rng(seed).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32) for seed in range(4)]


def made_graph(activation: str = "Clip", outlier: float = 1.0, about: dict[str, str] = ABOUT) -> bytes:
    """Return a graph; `middle` is depthwise, and `deep` has weights that are `outlier` times as large as the others."""
    rng = np.random.default_rng(0)
    channels = {"first": 3, "middle": 1, "deep": 8, "last": 8}
    weights = {name: rng.normal(0, 0.3, (8, count, 3, 3)).astype(np.float32) for name, count in channels.items()}
    weights["deep"][:, 0, 0, 0] *= outlier
    biases = {f"bias_of_{name}": rng.normal(0, 0.3, 8).astype(np.float32) for name in CONVOLUTIONS}
    numbers = {"low": np.array(0, np.float32), "high": np.array(6, np.float32), "half": np.array(0.5, np.float32)}
    values = {**weights, **biases, **numbers, "shape": np.array([1, -1, 4])}
    limits = ["low", "high"] if activation == "Clip" else []
    rows = [("Mul", ["input_0", "half"], "scaled"), ("Conv", ["scaled", "first", "bias_of_first"], "a"),
            (activation, ["a", *limits], "b"), ("Conv", ["b", "middle", "bias_of_middle"], "c"), ("Add", ["b", "c"], "d"),
            ("Conv", ["d", "deep", "bias_of_deep"], "e"), (activation, ["e", *limits], "f"),
            ("Conv", ["f", "last", "bias_of_last"], "g"), ("Reshape", ["g", "shape"], "h"),
            ("Sigmoid", ["h"], "scores"), ("Tanh", ["h"], "boxes")]
    nodes = [helper.make_node(kind, inputs, [output], name=inputs[1] if kind == "Conv" else output,
                              **({"pads": [1] * 4, "group": 8 if "middle" in inputs else 1} if kind == "Conv" else {}))
             for kind, inputs, output in rows]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 128, 4]) for name in ("scores", "boxes")]
    inputs = [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, 3, 8, 8])]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "made", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, about)
    return bytes(model.SerializeToString())
