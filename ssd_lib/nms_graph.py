"""The exported graph with non-maximum suppression at its end, for runtimes that have the operator."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCORE_THRESHOLD, NMS_IOU = 0.05, 0.45  # the caller drops what scores too low for him
PER_CLASS, OBJECTS = 200, 100  # objects of a class, and of all, at most
INNER = {"scores": "prior_scores", "boxes": "prior_boxes"}  # the outputs that it continues from


def with_nms(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose outputs are objects, OBJECTS at most, the highest score first: `boxes` (N, 4) float32 xyxy in [0, 1],
    `labels` (N,) int64 in 1..K, `scores` (N,) float32 above SCORE_THRESHOLD.

    Args:
        graph: with the outputs `scores` (1, P, K + 1) and `boxes` (1, P, 4) of the Jetson's contract; left as it was.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    inner = result.graph
    for node in inner.node:
        node.output[:] = [INNER.get(name, name) for name in node.output]
        node.input[:] = [INNER.get(name, name) for name in node.input]
    inner.node.extend(_nodes())
    constants = {"per_class": [PER_CLASS], "objects": [OBJECTS], "one": [1], "first": [1], "last": [2**31], "axis": [2],
                 "zero": [0], "two": [2], "four": [4], "class_column": 1, "prior_column": 2}
    inner.initializer.extend(numpy_helper.from_array(np.array(value, dtype=np.int64), f"nms_{name}")
                             for name, value in constants.items())
    inner.initializer.extend(numpy_helper.from_array(np.array([value], dtype=np.float32), f"nms_{name}")
                             for name, value in (("score_threshold", SCORE_THRESHOLD), ("iou_threshold", NMS_IOU)))
    del inner.output[:]
    inner.output.extend([helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["objects", 4]),
                         helper.make_tensor_value_info("labels", TensorProto.INT64, ["objects"]),
                         helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["objects"])])
    onnx.checker.check_model(result)
    return result


def _nodes() -> list[onnx.NodeProto]:
    """From the scores and boxes of priors to objects."""
    rows: tuple[tuple[str, str, str, dict[str, Any]], ...] = (  # operator, inputs, outputs, attributes
        ("Slice", "prior_scores nms_first nms_last nms_axis", "nms_of_classes", {}),
        ("Slice", "prior_boxes nms_zero nms_two nms_axis", "nms_top_left", {}),
        ("Slice", "prior_boxes nms_two nms_four nms_axis", "nms_bottom_right", {}),
        ("Sub", "nms_bottom_right nms_top_left", "nms_sides", {}),
        ("Sign", "nms_sides", "nms_side_is_long", {}),
        ("ReduceMin", "nms_side_is_long nms_axis", "nms_has_area", {"keepdims": 1}),  # 1.0, or 0.0 for a box without an area
        ("Mul", "nms_of_classes nms_has_area", "nms_with_area", {}),
        ("Transpose", "nms_with_area", "nms_by_class", {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", "prior_boxes nms_by_class nms_per_class nms_iou_threshold nms_score_threshold", "nms_picked", {}),
        ("GatherND", "nms_by_class nms_picked", "nms_picked_scores", {}),
        ("Gather", "nms_picked nms_class_column", "nms_picked_classes", {"axis": 1}),
        ("Gather", "nms_picked nms_prior_column", "nms_picked_priors", {"axis": 1}),
        ("Shape", "nms_picked_scores", "nms_count", {}),
        ("Min", "nms_count nms_objects", "nms_kept", {}),
        ("TopK", "nms_picked_scores nms_kept", "scores nms_order", {}),
        ("Gather", "nms_picked_priors nms_order", "nms_priors", {}),
        ("Squeeze", "prior_boxes nms_zero", "nms_boxes", {}),
        ("Gather", "nms_boxes nms_priors", "boxes", {}),
        ("Gather", "nms_picked_classes nms_order", "nms_classes", {}),
        ("Add", "nms_classes nms_one", "labels", {}),
    )
    return [helper.make_node(kind, inputs.split(), outputs.split(), name=f"nms_{i}_{kind}", **attributes)
            for i, (kind, inputs, outputs, attributes) in enumerate(rows)]
