"""The model as an ONNX file, to the contract of NVIDIA's jetson-inference (c/detectNet.cpp):

input `input_0` float32 (1, 3, S, S), RGB, (x / 255 - 0.5) / 0.5; outputs `scores` (1, P, K + 1) after softmax, class 0
the background, then `boxes` (1, P, 4) xyxy in [0, 1]; static shapes, no NMS in the graph; labels.txt: BACKGROUND, then
the K names.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ssd_lib.boxes.coder import decode
from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write, write_text
from ssd_lib.nets.model_file import BACKGROUND_NAME, Model, load_model
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import ExportParams

ONNX_PATH = Path("models/ssd.onnx")
LABELS_PATH = Path("models/labels.txt")
TOLERANCE = 1e-4  # between ONNX Runtime and PyTorch, of scores and of boxes in units of the image


class JetsonNet(nn.Module):
    """A net behind the contract of this module; pixels are scaled back to [0, 255], so its own mean and std hold."""

    def __init__(self, net: SSD) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_0: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, S, S) in [-1, 1] -> (1, P, K + 1) scores and (1, P, 4) boxes."""
        logits, offsets = self.net(input_0 * 127.5 + 127.5)
        return logits.softmax(dim=2), decode(offsets, self.net.priors).clamp(0, 1)


def export(params: ExportParams) -> str:
    """Write models/ssd.onnx and models/labels.txt from models/ssd.pt.

    Law: the file appears under its name only when ONNX Runtime has given PyTorch's numbers from it.

    Returns:
        A line of summary, and one of warning for each TensorRT engine that the Jetson would use instead of the file.

    Raises:
        StateError: there is no model, or the exported graph is not what it must be.
    """
    model = load_model()
    graph = to_onnx(model, params.opset)
    error = check_onnx(graph, model, params.opset)
    write_text(LABELS_PATH, "\n".join([BACKGROUND_NAME, *model.spec.class_names]) + "\n")
    with atomic_write(ONNX_PATH) as file:
        file.write(graph)
    stale = [f"\nWARNING {engine}: an earlier model, which the Jetson uses instead of {ONNX_PATH.name}. Delete it."
             for engine in sorted(ONNX_PATH.parent.glob("*.engine"))]
    return (f"export: {ONNX_PATH}, {len(graph) / 1e6:.1f} MB, opset {params.opset}, {len(model.net.priors)} priors, "
            f"differs from PyTorch by {error:.1e} at most{''.join(stale)}")


def to_onnx(model: Model, opset: int) -> bytes:
    """The bytes of an ONNX file, with what must be known to use it in its metadata_props."""
    size, spec = model.net.image_size, model.spec
    with _quiet():
        program = torch.onnx.export(JetsonNet(model.net).eval(), (torch.zeros(1, 3, size, size),), dynamo=True,
                                    external_data=False, opset_version=opset, input_names=["input_0"],
                                    output_names=["scores", "boxes"], verbose=False)
    assert program is not None
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {
        "net": spec.net,
        "image_size": str(size),
        "classes": json.dumps([BACKGROUND_NAME, *spec.class_names], ensure_ascii=False),
        "fingerprint": str(model.about.get("fingerprint", "")),
    })
    return graph.SerializeToString()


def check_onnx(graph: bytes, model: Model, opset: int) -> float:
    """The largest difference of ONNX Runtime's outputs from PyTorch's, on noise from black to white.

    Raises:
        StateError: the difference is above `TOLERANCE`, or opset, names or shapes are not as asked.
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
        raise StateError(f"export: the graph has {shapes}; it must have {wanted}. This torch exports it otherwise; "
                         "install the version of requirements.txt.")
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        expected = JetsonNet(model.net)(torch.from_numpy(pixels))
    got = session.run(None, {"input_0": pixels})
    differences = [np.abs(one - other.numpy()).max() for one, other in zip(got, expected, strict=True)]
    error = float(np.max(differences))  # nan stays nan, unlike with max()
    if not error <= TOLERANCE:
        raise StateError(f"export: ONNX Runtime differs from PyTorch by {error:.1e}; {TOLERANCE} is allowed. Nothing "
                         "was written. Does `dvc repro evaluate` give finite numbers?")
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and warnings; what it raises still comes out."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
