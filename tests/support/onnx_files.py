"""ONNX files like exported ones, of two nodes: the same scores and boxes whatever they are shown."""

import json
from pathlib import Path

import numpy as np
import onnx

ABOUT = {"image_size": "64", "classes": json.dumps(["BACKGROUND", "dog", "kite"])}
SCORES = np.array([[[0.1, 0.2, 0.7], [0.2, 0.6, 0.2]]], np.float32)
BOXES = np.array([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]], np.float32)


def constant_file(path: Path, about: dict[str, str] = ABOUT, scores: np.ndarray = SCORES, input_name: str = "input_0") -> Path:
    """Write such a file with `about` as its metadata, and return its path."""
    outputs = {"scores": scores, "boxes": BOXES}
    nodes = [onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value))
             for name, value in outputs.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(
        nodes, "constant", [onnx.helper.make_tensor_value_info(input_name, onnx.TensorProto.FLOAT, [1, 3, 64, 64])],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
    ), opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.helper.set_model_props(model, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
