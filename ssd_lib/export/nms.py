"""The ONNX graph with non-maximum suppression, whose outputs are the detections of one image, and its check."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ssd_lib.boxes.selection import VOTER_SHARE, Postprocess, select
from ssd_lib.errors import StateError

INNER = {"scores": "prior_scores", "boxes": "prior_boxes"}  # the outputs that it continues from
BOX_TOLERANCE = 1e-5  # of the means of box voting, in float32


def with_nms(graph: onnx.ModelProto, postprocess: Postprocess) -> onnx.ModelProto:
    """Return a graph whose outputs are the detections of one image, the highest score first.

    Outputs: `boxes` (N, 4) float32 xyxy in [0, 1], `labels` (N,) int64 in 1..K, `scores` (N,) float32 above the score
    threshold.
    Guarantees: they are those of `select` with the same values, but for the order of equal scores, and for the rounding of
    float32 in box voting.

    Args:
        graph: with the outputs `scores` (1, P, K + 1) and `boxes` (1, P, 4) of the Jetson's contract; it is not changed.
        postprocess: thresholds and limits.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    inner = result.graph
    priors = next(output for output in inner.output if output.name == "boxes").type.tensor_type.shape.dim[1].dim_value
    for node in inner.node:
        node.output[:] = [INNER.get(name, name) for name in node.output]
        node.input[:] = [INNER.get(name, name) for name in node.input]
    inner.node.extend(_nodes(bool(postprocess.vote_iou)))
    constants = {"top_k": [min(postprocess.top_k_per_class, priors)], "objects": [postprocess.max_detections], "one": [1],
                 "first_label": [1],
                 "first": [1], "last": [2**31], "axis": [2], "zero": [0], "two": [2], "four": [4], "class_column": 0,
                 "class_and_rank": [0, 2]}
    inner.initializer.extend(numpy_helper.from_array(np.array(value, dtype=np.int64), f"nms_{name}")
                             for name, value in constants.items())
    thresholds = {"score_threshold": postprocess.score_threshold, "iou_threshold": postprocess.nms_iou}
    if postprocess.vote_iou:
        thresholds |= {"vote_iou": postprocess.vote_iou, "voter_share": VOTER_SHARE}
    inner.initializer.extend(numpy_helper.from_array(np.array([value], dtype=np.float32), f"nms_{name}")
                             for name, value in thresholds.items())
    del inner.output[:]
    inner.output.extend([helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["objects", 4]),
                         helper.make_tensor_value_info("labels", TensorProto.INT64, ["objects"]),
                         helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["objects"])])
    onnx.checker.check_model(result)
    return result


def check_nms(graph: bytes, plain: bytes, inputs: Sequence[np.ndarray], postprocess: Postprocess) -> None:
    """Compare the best object of each image with the best candidates of `select` on the outputs of the graph without NMS.

    Raises:
        StateError: it is none of them.
    """
    ended, session = (onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (graph, plain))
    for pixels in inputs:
        boxes, labels, scores = ended.run(None, {"input_0": pixels})
        of_priors, prior_boxes = (output[0] for output in session.run(None, {"input_0": pixels}))
        expected = select(of_priors[:, 1:], prior_boxes, postprocess._replace(nms_iou=1.0))  # with all of equal scores
        best = expected.scores.max(initial=0.0)
        if len(scores):
            is_right = ((expected.scores == best) & (scores[0] == best) & (expected.labels == labels[0])
                        & np.isclose(expected.boxes, boxes[0], rtol=0, atol=BOX_TOLERANCE).all(axis=1)).any()
        else:
            is_right = best <= np.float32(postprocess.score_threshold)  # the operator takes scores above it
        if not is_right:
            raise StateError("export: the best object of the graph with NMS is not the best one without it, which scores "
                             f"{best:.6g}. Set export.nms: false, and report it.")


def _nodes(votes: bool) -> list[onnx.NodeProto]:
    """The nodes from the scores and boxes of priors to detections; `k` is the number of candidates of a class, N of objects."""
    rows: tuple[tuple[str, str, str, dict[str, Any]], ...] = (  # operator, inputs, outputs, attributes
        ("Slice", "prior_scores nms_first nms_last nms_axis", "nms_of_classes", {}),  # (1, P, K)
        ("Slice", "prior_boxes nms_zero nms_two nms_axis", "nms_top_left", {}),
        ("Slice", "prior_boxes nms_two nms_four nms_axis", "nms_bottom_right", {}),
        ("Sub", "nms_bottom_right nms_top_left", "nms_sides", {}),
        ("Sign", "nms_sides", "nms_side_is_long", {}),
        ("ReduceMin", "nms_side_is_long nms_axis", "nms_has_area", {"keepdims": 1}),  # 1.0, or 0.0 for a box without an area
        ("Mul", "nms_of_classes nms_has_area", "nms_with_area", {}),
        ("Transpose", "nms_with_area", "nms_by_class", {"perm": [0, 2, 1]}),
        ("Squeeze", "nms_by_class nms_zero", "nms_class_scores", {}),  # (K, P)
        ("TopK", "nms_class_scores nms_top_k", "nms_top_scores nms_top_priors", {"axis": 1}),  # (K, k)
        ("Squeeze", "prior_boxes nms_zero", "nms_boxes", {}),
        ("Gather", "nms_boxes nms_top_priors", "nms_top_boxes", {}),  # (K, k, 4): for the operator a class is an image
        ("Unsqueeze", "nms_top_scores nms_one", "nms_candidates", {}),  # (K, 1, k)
        ("NonMaxSuppression", "nms_top_boxes nms_candidates nms_top_k nms_iou_threshold nms_score_threshold", "nms_picked", {}),
        ("GatherND", "nms_candidates nms_picked", "nms_picked_scores", {}),
        ("Gather", "nms_picked nms_class_and_rank", "nms_picked_places", {"axis": 1}),
        ("GatherND", "nms_top_boxes nms_picked_places", "nms_picked_boxes", {}),
        ("Gather", "nms_picked nms_class_column", "nms_picked_classes", {"axis": 1}),
        ("Shape", "nms_picked_scores", "nms_count", {}),
        ("Min", "nms_count nms_objects", "nms_kept", {}),
        ("TopK", "nms_picked_scores nms_kept", "scores nms_order", {}),
        ("Gather", "nms_picked_boxes nms_order", "nms_kept_boxes" if votes else "boxes", {}),
        ("Gather", "nms_picked_classes nms_order", "nms_classes", {}),
        ("Add", "nms_classes nms_first_label", "labels", {}),
    )
    voting: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("Gather", "nms_top_boxes nms_classes", "vote_boxes", {}),  # (N, k, 4), the candidates of the class of each object
        ("Gather", "nms_top_scores nms_classes", "vote_scores", {}),  # (N, k)
        ("Unsqueeze", "nms_kept_boxes nms_one", "vote_objects", {}),  # (N, 1, 4)
        ("Split", "vote_boxes", "vote_top_left vote_bottom_right", {"axis": 2, "num_outputs": 2}),
        ("Split", "vote_objects", "vote_object_top_left vote_object_bottom_right", {"axis": 2, "num_outputs": 2}),
        ("Max", "vote_top_left vote_object_top_left", "vote_common_top_left", {}),
        ("Min", "vote_bottom_right vote_object_bottom_right", "vote_common_bottom_right", {}),
        ("Sub", "vote_common_bottom_right vote_common_top_left", "vote_common_sides_or_less", {}),
        ("Relu", "vote_common_sides_or_less", "vote_common_sides", {}),
        ("Sub", "vote_bottom_right vote_top_left", "vote_sides", {}),
        ("Sub", "vote_object_bottom_right vote_object_top_left", "vote_object_sides", {}),
        ("ReduceProd", "vote_common_sides nms_axis", "vote_common", {"keepdims": 0}),  # (N, k), the areas
        ("ReduceProd", "vote_sides nms_axis", "vote_areas", {"keepdims": 0}),
        ("ReduceProd", "vote_object_sides nms_axis", "vote_object_areas", {"keepdims": 0}),  # (N, 1)
        ("Add", "vote_areas vote_object_areas", "vote_both_areas", {}),
        ("Sub", "vote_both_areas vote_common", "vote_unions", {}),
        ("Div", "vote_common vote_unions", "vote_ious", {}),
        ("GreaterOrEqual", "vote_ious nms_vote_iou", "vote_is_same", {}),
        ("Unsqueeze", "scores nms_one", "vote_object_scores", {}),  # (N, 1)
        ("Mul", "vote_object_scores nms_voter_share", "vote_lowest_scores", {}),
        ("GreaterOrEqual", "vote_scores vote_lowest_scores", "vote_is_sure", {}),
        ("And", "vote_is_same vote_is_sure", "vote_counts", {}),
        ("Cast", "vote_counts", "vote_numbers", {"to": TensorProto.FLOAT}),
        ("Mul", "vote_scores vote_numbers", "vote_weights", {}),
        ("ReduceSum", "vote_weights nms_one", "vote_sums", {"keepdims": 1}),  # (N, 1)
        ("Unsqueeze", "vote_weights nms_one", "vote_weight_rows", {}),  # (N, 1, k)
        ("MatMul", "vote_weight_rows vote_boxes", "vote_sum_rows", {}),
        ("Squeeze", "vote_sum_rows nms_one", "vote_box_sums", {}),
        ("Div", "vote_box_sums vote_sums", "boxes", {}),
    )
    rows += voting if votes else ()
    return [helper.make_node(kind, inputs.split(), outputs.split(), name=f"nms_{i}_{kind}", **attributes)
            for i, (kind, inputs, outputs, attributes) in enumerate(rows)]
