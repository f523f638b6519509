"""The model as an ONNX file, to the contract of NVIDIA's jetson-inference (c/detectNet.cpp):

input `input_0` float32 (1, 3, S, S), RGB, (x / 255 - 0.5) / 0.5; outputs `scores` (1, P, K + 1) after softmax, class 0
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

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME, load_fixed
from ssd_lib.boxes.coder import decode
from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write, write_text
from ssd_lib.images import read_image
from ssd_lib.manifest import load_manifest
from ssd_lib.nets.model_file import Model, load_model
from ssd_lib.nets.ssd import SSD
from ssd_lib.nms_graph import with_nms
from ssd_lib.params import ExportParams

ONNX_PATH = Path("models/ssd.onnx")
LABELS_PATH = Path("models/labels.txt")
NMS_FOLDER = Path("models/with_nms")  # empty where export.nms is false: DVC wants its outs to exist
TOLERANCE = 1e-4  # between ONNX Runtime and PyTorch, of scores and of boxes in units of the image
PHOTOS = 4  # of the validation images, to compare on
GREY = 127.5  # input_0 is (x - GREY) / GREY


class JetsonNet(nn.Module):
    """A net behind the contract of this module; pixels are scaled back to [0, 255], so its own mean and std hold."""

    def __init__(self, net: SSD) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_0: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, S, S) in [-1, 1] -> (1, P, K + 1) scores and (1, P, 4) boxes."""
        logits, offsets = self.net(input_0 * GREY + GREY)
        return logits.softmax(dim=2), decode(offsets, self.net.priors).clamp(0, 1)


def export(params: ExportParams) -> str:
    """Write models/ssd.onnx and models/labels.txt from models/ssd.pt, and the graph with NMS where it is asked for.

    Guarantees: the files appear under their names only when ONNX Runtime has given PyTorch's numbers from them, on validation images
    where they are on this machine, and on noise.

    Returns:
        A line of summary, and one of warning for each TensorRT engine that the Jetson would use instead of the file.

    Raises:
        StateError: there is no model, or the exported graph is not what it must be.
    """
    model = load_model()
    pictures = [*photos(model.net.image_size), _noise(model.net.image_size)]
    graph = to_onnx(model, params.opset)
    error = check_onnx(graph, model, params.opset, pictures)
    shutil.rmtree(NMS_FOLDER, ignore_errors=True)
    NMS_FOLDER.mkdir(parents=True)
    if params.nms:
        ended = with_nms(onnx.load_from_string(graph), model.postprocess).SerializeToString()
        check_nms(ended, graph, pictures, model.postprocess.score_threshold)
        _write(NMS_FOLDER / ONNX_PATH.name, ended)
    write_text(LABELS_PATH, "\n".join([BACKGROUND_NAME, *model.spec.class_names]) + "\n")
    _write(ONNX_PATH, graph)
    stale = [f"\nWARNING {engine}: an earlier model, which the Jetson uses instead of {ONNX_PATH.name}. Delete it."
             for engine in sorted(ONNX_PATH.parent.glob("*.engine"))]
    compared = f"{len(pictures) - 1} validation images" if len(pictures) > 1 else "noise (the validation images are not here)"
    return (f"export: {ONNX_PATH}{f' and {NMS_FOLDER / ONNX_PATH.name}' * params.nms}, {len(graph) / 1e6:.1f} MB, opset "
            f"{params.opset}, {len(model.net.priors)} priors, differs from PyTorch by {error:.1e} at most on {compared}"
            f"{''.join(stale)}")


def to_onnx(model: Model, opset: int) -> bytes:
    """The bytes of an ONNX file, with what must be known to use it in its metadata_props."""
    size, spec = model.net.image_size, model.spec
    with _quiet():
        program = torch.onnx.export(JetsonNet(model.net).eval(), (torch.zeros(1, 3, size, size),), dynamo=True,
                                    external_data=False, opset_version=opset, input_names=["input_0"],
                                    output_names=["scores", "boxes"], verbose=False)
    assert program is not None
    graph = program.model_proto
    about = {"net": spec.net, "image_size": size, "classes": [BACKGROUND_NAME, *spec.class_names],
             "source_ids": spec.source_ids, "mean": [GREY] * 3, "std": [GREY] * 3,
             "postprocess": model.postprocess._asdict(), "fingerprint": model.about.get("fingerprint", "")}
    onnx.helper.set_model_props(graph, {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return graph.SerializeToString()


def check_onnx(graph: bytes, model: Model, opset: int, pictures: Sequence[np.ndarray]) -> float:
    """The largest difference of ONNX Runtime's outputs from PyTorch's.

    Args:
        graph: from `to_onnx`.
        model: what it was made of.
        opset: what it must have.
        pictures: (1, 3, S, S) float32 in [-1, 1], one at least.

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
    differences = []
    for pixels in pictures:
        with torch.inference_mode():
            expected = JetsonNet(model.net)(torch.from_numpy(pixels))
        got = session.run(None, {"input_0": pixels})
        differences += [np.abs(one - other.numpy()).max() for one, other in zip(got, expected, strict=True)]
    error = float(np.max(differences))  # nan stays nan, unlike with max()
    if not error <= TOLERANCE:
        raise StateError(f"export: ONNX Runtime differs from PyTorch by {error:.1e}; {TOLERANCE} is allowed. Nothing "
                         "was written. Does `dvc repro evaluate` give finite numbers?")
    return error


def check_nms(graph: bytes, plain: bytes, pictures: Sequence[np.ndarray], score_threshold: float) -> None:
    """Compare the best object of each picture with the best prior of the graph without NMS.

    Raises:
        StateError: they are not the same.
    """
    ended, session = (onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (graph, plain))
    for pixels in pictures:
        boxes, labels, scores = ended.run(None, {"input_0": pixels})
        of_priors, prior_boxes = (output[0] for output in session.run(None, {"input_0": pixels}))
        of_priors = of_priors * (prior_boxes[:, 2:] > prior_boxes[:, :2]).all(axis=1, keepdims=True)
        best = of_priors[:, 1:].max()
        if best <= score_threshold and not len(scores):
            continue
        if not len(scores) or not ((of_priors[:, labels[0]] == best) & (prior_boxes == boxes[0]).all(axis=1)).any():
            raise StateError(f"export: the best object of the graph with NMS is not the best of all priors, which scores "
                             f"{best}. Set export.nms: false, and report it.")


def photos(image_size: int) -> list[np.ndarray]:
    """Some validation images as the graph takes them; none where they, or their list, are not on this machine."""
    try:
        fixed, manifest = load_fixed("val"), load_manifest()
    except StateError:
        return []
    shown = np.linspace(0, len(fixed) - 1, min(PHOTOS, len(fixed))).round().astype(int).tolist()
    paths = [manifest.path(fixed.file_name(index)) for index in shown]
    return [as_input(read_image(path), image_size) for path in paths if path.is_file()]


def as_input(picture: np.ndarray, image_size: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (1, 3, S, S) float32 in [-1, 1]: what `input_0` takes."""
    resized = cv2.resize(picture, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
    return ((resized.astype(np.float32) - GREY) / GREY).transpose(2, 0, 1)[None]


def _noise(image_size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, image_size, image_size)).astype(np.float32)


def _write(path: Path, graph: bytes) -> None:
    with atomic_write(path) as file:
        file.write(graph)


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
