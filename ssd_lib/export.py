"""Export the model as ONNX, to the contract of NVIDIA's jetson-inference (c/detectNet.cpp).

Input `input_0` float32 (1, 3, S, S), RGB, (x / 255 - 0.5) / 0.5; outputs `scores` (1, P, K + 1) after softmax, class 0
the background, then `boxes` (1, P, 4) xyxy in [0, 1]; static shapes, no NMS in the graph; labels.txt: BACKGROUND, then
the K names.
"""

import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME, load_fixed
from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write, write_text
from ssd_lib.images import FULL_RANGE, Range, read_image
from ssd_lib.manifest import load_manifest
from ssd_lib.nets.model_file import Model, load_model
from ssd_lib.nets.ssd import SSD, scores_of
from ssd_lib.params import ExportParams

ONNX_PATH = Path("models/ssd.onnx")
LABELS_PATH = Path("models/labels.txt")
NMS_FOLDER = Path("models/with_nms")  # it has only a note if export.nms is false: DVC requires its outs to exist
NMS_NOTE = "The graph with NMS, ssd.onnx, is written here if export.nms in params.yaml is true.\n"
TOLERANCE = 1e-4  # largest difference between ONNX Runtime and PyTorch, of scores and of boxes in [0, 1]
COMPARED_IMAGES = 4  # validation images to compare the two on
GREY = 127.5  # input_0 is (x - GREY) / GREY
INNER = {"scores": "prior_scores", "boxes": "prior_boxes"}  # the outputs that it continues from


class JetsonNet(nn.Module):
    """A net behind the contract of this module: pixels are scaled back to [0, 255], where its own mean and std apply."""

    def __init__(self, net: SSD) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_0: Tensor) -> tuple[Tensor, Tensor]:
        """Map (1, 3, S, S) in [-1, 1] to (1, P, K + 1) scores and (1, P, 4) boxes."""
        logits, offsets = self.net(input_0 * GREY + GREY)
        return scores_of(logits, self.net.scores), decode(offsets, self.net.priors).clamp(0, 1)


def export(params: ExportParams) -> str:
    """Write models/ssd.onnx and models/labels.txt from models/ssd.pt, and the graph with NMS if `export.nms` is true.

    Guarantees: the files appear only after ONNX Runtime gave PyTorch's numbers from them, on noise and, if they are on this
    machine, on validation images.

    Returns:
        One line of summary, and a warning for each TensorRT engine that the Jetson would use instead of the file.

    Raises:
        StateError: there is no model, or the exported graph is not as required.
    """
    model = load_model()
    inputs = [*validation_inputs(model.net.image_size, model.spec.sixteen_bit_range), _noise(model.net.image_size)]
    graph = to_onnx(model, params.opset)
    error = check_onnx(graph, model, params.opset, inputs)
    shutil.rmtree(NMS_FOLDER, ignore_errors=True)
    if params.nms:
        ended = with_nms(onnx.load_from_string(graph), model.postprocess).SerializeToString()
        check_nms(ended, graph, inputs, model.postprocess.score_threshold)
        _write(NMS_FOLDER / ONNX_PATH.name, ended)
    else:
        write_text(NMS_FOLDER / "README.txt", NMS_NOTE)
    write_text(LABELS_PATH, "\n".join([BACKGROUND_NAME, *model.spec.class_names]) + "\n")
    _write(ONNX_PATH, graph)
    stale = [f"\nWARNING {engine}: built from an earlier model; the Jetson uses it instead of {ONNX_PATH.name}. Delete it."
             for engine in sorted(ONNX_PATH.parent.glob("*.engine"))]
    compared = (f"{len(inputs) - 1} validation images" if len(inputs) > 1
                else "noise (the validation images are not on this machine)")
    return (f"export: {ONNX_PATH}{f' and {NMS_FOLDER / ONNX_PATH.name}' * params.nms}, {len(graph) / 1e6:.1f} MB, opset "
            f"{params.opset}, {len(model.net.priors)} priors, differs from PyTorch by {error:.1e} at most on {compared}"
            f"{''.join(stale)}")


def to_onnx(model: Model, opset: int) -> bytes:
    """Return the bytes of an ONNX file; its metadata_props hold what is needed to use it."""
    size, spec = model.net.image_size, model.spec
    with _quiet():
        program = torch.onnx.export(JetsonNet(model.net).eval(), (torch.zeros(1, 3, size, size),), dynamo=True,
                                    external_data=False, opset_version=opset, input_names=["input_0"],
                                    output_names=["scores", "boxes"], verbose=False)
    assert program is not None
    graph = program.model_proto
    about = {"net": spec.net, "image_size": size, "classes": [BACKGROUND_NAME, *spec.class_names],
             "source_ids": spec.source_ids, "mean": [GREY] * 3, "std": [GREY] * 3, "sixteen_bit_range": spec.sixteen_bit_range,
             "postprocess": model.postprocess._asdict(), "fingerprint": model.about.get("fingerprint", "")}
    onnx.helper.set_model_props(graph, {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return graph.SerializeToString()


def with_nms(graph: onnx.ModelProto, postprocess: Postprocess) -> onnx.ModelProto:
    """Return a graph whose outputs are the detections of one image, the highest score first.

    Outputs: `boxes` (N, 4) float32 xyxy in [0, 1], `labels` (N,) int64 in 1..K, `scores` (N,) float32 above the score
    threshold.
    Guarantees: they are those of `select_detections` with the same values, but for the order of equal scores.

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
    inner.node.extend(_nodes())
    constants = {"top_k": [min(postprocess.top_k_per_class, priors)], "objects": [postprocess.max_detections], "one": [1],
                 "first_label": [1],
                 "first": [1], "last": [2**31], "axis": [2], "zero": [0], "two": [2], "four": [4], "class_column": 0,
                 "class_and_rank": [0, 2]}
    inner.initializer.extend(numpy_helper.from_array(np.array(value, dtype=np.int64), f"nms_{name}")
                             for name, value in constants.items())
    thresholds = {"score_threshold": postprocess.score_threshold, "iou_threshold": postprocess.nms_iou}
    inner.initializer.extend(numpy_helper.from_array(np.array([value], dtype=np.float32), f"nms_{name}")
                             for name, value in thresholds.items())
    del inner.output[:]
    inner.output.extend([helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["objects", 4]),
                         helper.make_tensor_value_info("labels", TensorProto.INT64, ["objects"]),
                         helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["objects"])])
    onnx.checker.check_model(result)
    return result


def check_onnx(graph: bytes, model: Model, opset: int, inputs: Sequence[np.ndarray]) -> float:
    """Return the largest difference between the outputs of ONNX Runtime and PyTorch.

    Args:
        graph: from `to_onnx`.
        model: the exported model.
        opset: the required opset.
        inputs: (1, 3, S, S) float32 in [-1, 1], at least one.

    Raises:
        StateError: the difference is above `TOLERANCE`, or opset, names or shapes are not as required.
    """
    found = {entry.domain: entry.version for entry in onnx.load_from_string(graph).opset_import}.get("", 0)
    if found != opset:
        raise StateError(f"export: the graph has opset {found}; export.opset is {opset}, which this torch cannot "
                         f"write. Set export.opset: {found}.")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    size, priors = model.net.image_size, len(model.net.priors)
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    wanted = {"input_0": [1, 3, size, size], "scores": [1, priors, model.net.classes + 1], "boxes": [1, priors, 4]}
    if list(shapes.items()) != list(wanted.items()):
        raise StateError(f"export: the graph has {shapes}; it must have {wanted}. This version of torch exports it "
                         f"differently; install that of requirements.txt.")
    differences = []
    for pixels in inputs:
        with torch.inference_mode():
            expected = JetsonNet(model.net)(torch.from_numpy(pixels))
        got = session.run(None, {"input_0": pixels})
        differences += [np.abs(one - other.numpy()).max() for one, other in zip(got, expected, strict=True)]
    error = float(np.max(differences))  # keeps nan, unlike max()
    if not error <= TOLERANCE:
        raise StateError(f"export: ONNX Runtime differs from PyTorch by {error:.1e}; {TOLERANCE} is allowed. Nothing "
                         "was written. Does `dvc repro evaluate` give finite numbers?")
    return error


def check_nms(graph: bytes, plain: bytes, inputs: Sequence[np.ndarray], score_threshold: float) -> None:
    """Compare the best object of each image with the best prior of the graph without NMS.

    Raises:
        StateError: they are not the same.
    """
    ended, session = (onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (graph, plain))
    for pixels in inputs:
        boxes, labels, scores = ended.run(None, {"input_0": pixels})
        of_priors, prior_boxes = (output[0] for output in session.run(None, {"input_0": pixels}))
        of_priors = of_priors * (prior_boxes[:, 2:] > prior_boxes[:, :2]).all(axis=1, keepdims=True)
        best = of_priors[:, 1:].max()
        if best <= score_threshold and not len(scores):
            continue
        if not len(scores) or not ((of_priors[:, labels[0]] == best) & (prior_boxes == boxes[0]).all(axis=1)).any():
            raise StateError(f"export: the best object of the graph with NMS is not the best of all priors, which scores "
                             f"{best}. Set export.nms: false, and report it.")


def validation_inputs(image_size: int, deep_range: Range = FULL_RANGE) -> list[np.ndarray]:
    """Return some validation images as inputs of the graph; none if they or their list are not on this machine."""
    try:
        fixed, manifest = load_fixed("val"), load_manifest()
    except StateError:
        return []
    shown = np.linspace(0, len(fixed) - 1, min(COMPARED_IMAGES, len(fixed))).round().astype(int).tolist()
    paths = [manifest.path(fixed.file_name(index)) for index in shown]
    return [as_input(read_image(path, deep_range), image_size) for path in paths if path.is_file()]


def as_input(image: np.ndarray, image_size: int) -> np.ndarray:
    """Convert (H, W, 3) uint8 RGB to the input (1, 3, S, S) float32 in [-1, 1]."""
    resized = cv2.resize(image, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    return ((resized.astype(np.float32) - GREY) / GREY).transpose(2, 0, 1)[None]


def _noise(image_size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, image_size, image_size)).astype(np.float32)


def _write(path: Path, graph: bytes) -> None:
    with atomic_write(path) as file:
        file.write(graph)


def _nodes() -> list[onnx.NodeProto]:
    """The nodes from the scores and boxes of priors to detections; `k` is the number of candidates of a class."""
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
        ("Gather", "nms_picked_boxes nms_order", "boxes", {}),
        ("Gather", "nms_picked_classes nms_order", "nms_classes", {}),
        ("Add", "nms_classes nms_first_label", "labels", {}),
    )
    return [helper.make_node(kind, inputs.split(), outputs.split(), name=f"nms_{i}_{kind}", **attributes)
            for i, (kind, inputs, outputs, attributes) in enumerate(rows)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress output and warnings, not its exceptions."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
