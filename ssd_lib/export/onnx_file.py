"""The ONNX file: a graph to the contract of NVIDIA's jetson-inference (c/detectNet.cpp), with metadata, and its check.

Input `input_0` float32 (1, 3, S, S), RGB, (x / 255 - 0.5) / 0.5; outputs `scores` (1, P, K + 1) after softmax, class 0
the background, then `boxes` (1, P, 4) xyxy in [0, 1]; static shapes, no NMS in the graph; labels.txt: BACKGROUND, then
the K names.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME
from ssd_lib.boxes.coder import decode
from ssd_lib.errors import StateError
from ssd_lib.nets.model_file import Model
from ssd_lib.nets.rewrite import fuse_batch_norms
from ssd_lib.nets.ssd import SSD, scores_of

TOLERANCE = 1e-4  # largest difference between ONNX Runtime and PyTorch, of scores and of boxes in [0, 1]
GREY = 127.5  # input_0 is (x - GREY) / GREY


class JetsonNet(nn.Module):
    """A net behind the contract of this module: pixels are scaled back to [0, 255], where its own mean and std apply."""

    def __init__(self, net: SSD) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_0: Tensor) -> tuple[Tensor, Tensor]:
        """Map (1, 3, S, S) in [-1, 1] to (1, P, K + 1) scores and (1, P, 4) boxes."""
        logits, offsets = self.net(input_0 * GREY + GREY)
        return scores_of(logits, self.net.scores), decode(offsets, self.net.priors).clamp(0, 1)


def to_onnx(model: Model, opset: int, source: str = "", any_batch: bool = False) -> bytes:
    """Return the bytes of an ONNX file without batch norms; its metadata_props hold what is needed to use it.

    Args:
        model: a trained detector.
        opset: ONNX operator set.
        source: SHA-256 of the file that the model was read from.
        any_batch: the first dimension of the input and of the outputs is `batch` in place of 1.
    """
    size, spec = model.net.image_size, model.spec
    with quiet():
        program = torch.onnx.export(JetsonNet(fuse_batch_norms(model.net)).eval(), (torch.zeros(1 + any_batch, 3, size, size),),
                                    dynamo=True, external_data=False, opset_version=opset, input_names=["input_0"],
                                    output_names=["scores", "boxes"], verbose=False,
                                    dynamic_shapes=({0: "batch"},) if any_batch else None)
    assert program is not None
    graph = program.model_proto
    about = {"net": spec.net, "image_size": size, "classes": [BACKGROUND_NAME, *spec.class_names],
             "source_ids": spec.source_ids, "mean": [GREY] * 3, "std": [GREY] * 3, "sixteen_bit_range": spec.sixteen_bit_range,
             "postprocess": model.postprocess.to_plain(), "fingerprint": model.about.get("fingerprint", ""),
             "model_sha256": source, "precision": "fp32"}
    for part in (graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.graph.initializer, *graph.graph.input,
                 *graph.graph.output):
        del part.metadata_props[:]  # the exporter's notes, with paths of this machine
    onnx.helper.set_model_props(graph, {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return graph.SerializeToString()


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
    return check_outputs(lambda pixels: session.run(None, {"input_0": pixels}), model, inputs, "ONNX Runtime")


def check_any_batch(graph: bytes, model: Model, inputs: Sequence[np.ndarray]) -> None:
    """Compare a graph of `to_onnx` for any batch with PyTorch on one image, and on all of them in a batch.

    Raises:
        StateError: the difference is above `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    check_outputs(lambda pixels: session.run(["scores", "boxes"], {"input_0": pixels}), model,
                  [inputs[0], np.concatenate([*inputs, *inputs])], "a batch in ONNX Runtime")


def check_outputs(run: Callable[[np.ndarray], Iterable[np.ndarray]], model: Model, inputs: Sequence[np.ndarray],
                  runtime: str) -> float:
    """Return the largest difference between the outputs of a runtime and PyTorch.

    Args:
        run: maps (B, 3, S, S) to scores and boxes.
        model: the exported model.
        inputs: as for `check_onnx`, or batches.
        runtime: its name, for the message.

    Raises:
        StateError: the difference is above `TOLERANCE`, or the outputs have other shapes.
    """
    differences = []
    for pixels in inputs:
        with torch.inference_mode():
            expected = [output.numpy() for output in JetsonNet(model.net)(torch.from_numpy(pixels))]
        got = list(run(pixels))
        if [one.shape for one in got] != [one.shape for one in expected]:
            raise StateError(f"export: the outputs of {runtime} have the shapes {[one.shape for one in got]}; PyTorch's have "
                             f"{[one.shape for one in expected]}. Nothing was written.")
        differences += [np.abs(one - other).max() for one, other in zip(got, expected, strict=True)]
    error = float(np.max(differences))  # keeps nan, unlike max()
    if not error <= TOLERANCE:
        raise StateError(f"export: {runtime} differs from PyTorch by {error:.1e}; {TOLERANCE} is allowed. Nothing "
                         "was written. Does `dvc repro evaluate` give finite numbers?")
    return error


def as_input(image: np.ndarray, image_size: int) -> np.ndarray:
    """Convert (H, W, 3) uint8 RGB to the input (1, 3, S, S) float32 in [-1, 1]."""
    resized = cv2.resize(image, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    return ((resized.astype(np.float32) - GREY) / GREY).transpose(2, 0, 1)[None]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress an exporter's progress output and warnings, not its exceptions."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
