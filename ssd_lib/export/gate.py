"""The gate of INT8: a quantised file is written only if its AP on validation images is nearly that of the file in float.

If it is not, the nodes that change the outputs most go back to float, more of them in each attempt.
"""

import json
import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from tqdm import tqdm

from ssd_lib.boxes.selection import Postprocess, Selected, select
from ssd_lib.evaluate.validation_ap import SplitImages, average_precision, split_images
from ssd_lib.export.int8 import (
    RUNTIME,
    TENSORRT,
    Calibration,
    Scheme,
    calibrate,
    float_only,
    inner_nodes,
    kept_float,
    most_sensitive,
    prepare,
    quantise,
    with_short_names,
)
from ssd_lib.export.onnx_file import as_input
from ssd_lib.images import read_image

MAX_LOSS = 0.01  # of AP
CALIBRATION_IMAGES, VALIDATION_IMAGES, SENSITIVITY_IMAGES = 256, 500, 4  # at most; of train, val and train
FLOAT_NODES = (0, 1, 2, 4, 8, 16)  # how many nodes stay float in each attempt
MAX_FLOAT_ONLY = 0.25  # nodes without an INT8 form for each convolution; with more of them INT8 is slower than float
SCHEMES = {"ssd.onnx": RUNTIME, "tensorrt.onnx": TENSORRT}  # by the name of the file
DIGITS = 4
log = logging.getLogger(__name__)


def make_int8(graph: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Quantise an exported graph, and measure it.

    Args:
        graph: of `to_onnx`.

    Returns:
        The files that passed, by name, and the content of reports/export.json, which says why others did not.
    """
    model = prepare(graph)
    if fault := without_gain(model.graph):
        return {}, {"no_int8": fault}
    train, val = split_images("train", CALIBRATION_IMAGES), split_images("val", VALIDATION_IMAGES)
    if not train or not val:
        return {}, {"no_int8": "it needs training and validation images, and they are not on this machine"}
    expected = ap_of(graph, val)
    if expected is None:
        return {}, {"no_int8": "there is no ground truth in the validation images, so that its AP is unknown"}
    calibration = calibrate(model, inputs_of(graph, train, "int8: ranges"))
    few = list(inputs_of(graph, train._replace(paths=train.paths[:: len(train.paths) // SENSITIVITY_IMAGES or 1])))

    @cache
    def order() -> list[str]:
        return most_sensitive(model, calibration, RUNTIME, few)  # both schemes lose most in the same nodes

    results = {name: attempts(model, calibration, scheme, order, expected, lambda quantised: ap_of(quantised, val) or 0.0)
               for name, scheme in SCHEMES.items()}
    files = {name: with_short_names(content) for name, (content, _) in results.items() if content}
    report: dict[str, Any] = {"fp32": {"bytes": len(graph), "AP": round(expected, DIGITS)}, "max_loss": MAX_LOSS,
                              "images": {"train": len(train.paths), "val": len(val.paths)}}
    if "ssd.onnx" not in files:
        report["no_int8"] = f"its AP is more than {MAX_LOSS} below {expected:.3f}, see reports/export.json"
    report["int8"] = {name: {"bytes": len(files[name]) if name in files else None, **tried[-1], "attempts": tried}
                      for name, (_, tried) in results.items()}
    return files, report


def attempts(model: onnx.ModelProto, calibration: Calibration, scheme: Scheme, order: Callable[[], list[str]], expected: float,
             measure: Callable[[bytes], float]) -> tuple[bytes | None, list[dict[str, Any]]]:
    """Quantise a graph, with more nodes in float in each attempt, until its AP is at most `MAX_LOSS` below `expected`.

    Args:
        model: from `prepare`.
        calibration: of `calibrate`.
        scheme: how activations are quantised.
        order: names the nodes that change the outputs most, these first; called only if some must stay float.
        expected: AP of the graph in float.
        measure: returns the AP of a quantised graph.

    Returns:
        The bytes of the graph that passed, or None; and for each attempt its AP and the nodes that stayed float.
    """
    sensitive: list[str] = []
    rows: list[dict[str, Any]] = []
    for count in FLOAT_NODES:
        if count and not sensitive:
            sensitive = order()
        quantised = quantise(model, calibration, scheme, sensitive[:count])
        ap = measure(kept_float(quantised))  # as TensorRT computes, too
        rows.append({"AP": round(ap, DIGITS), "float_nodes": sensitive[:count]})
        if round(expected - ap, DIGITS) <= MAX_LOSS:
            return quantised, rows
        log.info("int8: AP %.3f for %.3f in float is not good enough in attempt %d of at most %d; the next has more nodes in "
                 "float", ap, expected, len(rows), len(FLOAT_NODES))
    return None, rows


def without_gain(graph: onnx.GraphProto) -> str:
    """Return why the INT8 form of a graph would not be faster; "" if it should be."""
    nodes = inner_nodes(graph)
    kinds = float_only(nodes)
    if len(kinds) <= MAX_FLOAT_ONLY * sum(node.op_type == "Conv" for node in nodes):
        return ""
    return (f"{len(kinds)} of the net's nodes ({', '.join(sorted(set(kinds)))}) have no INT8 form in ONNX Runtime, and the "
            "conversions around them take what the others save; a net with ReLU6 gains")


def ap_of(graph: bytes, images: SplitImages) -> float | None:
    """Return the AP of an exported graph in ONNX Runtime, with the postprocess values of its metadata."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    postprocess = Postprocess.from_plain(_about(graph, "postprocess"))

    def detect(pixels: np.ndarray) -> Selected:
        scores, boxes = session.run(["scores", "boxes"], {"input_0": pixels})
        return select(scores[0, :, 1:], boxes[0], postprocess)

    return average_precision(images, map(detect, inputs_of(graph, images, "int8: AP")))


def inputs_of(graph: bytes, images: SplitImages, task: str = "") -> Iterator[np.ndarray]:
    """Yield each image as the Detector gives it to the graph; a bar shows the task, if it has a name."""
    size, (low, high) = _about(graph, "image_size"), _about(graph, "sixteen_bit_range")
    paths = tqdm(images.paths, task, unit=" images", leave=False, dynamic_ncols=True, disable=None if task else True)
    return (as_input(read_image(path, (low, high)), size) for path in paths)


def _about(graph: bytes, key: str) -> Any:
    return json.loads(next(entry.value for entry in onnx.load_from_string(graph).metadata_props if entry.key == key))
