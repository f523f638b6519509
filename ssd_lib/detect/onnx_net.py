"""An exported net, run by ONNX Runtime instead of PyTorch. The file's contract is written down in export.py."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ssd_lib.errors import InputError, StateError, first_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxNet:
    """A session, and what its file says of it.

    Attributes:
        session: input `input_0` (1, 3, S, S); outputs `scores` (1, P, K + 1) and `boxes` (1, P, 4).
        image_size: S.
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the data set that it was trained on.
    """

    session: onnxruntime.InferenceSession
    image_size: int
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]

    def score_priors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `postprocess.score_priors` gives, image by image: the graph takes one at a time.

        Args:
            images: (B, 3, S, S) uint8, RGB.

        Raises:
            StateError: the graph gives nan or infinity.
        """
        pixels = (images.numpy().astype(np.float32) / 255 - 0.5) / 0.5
        outputs = [self.session.run(["scores", "boxes"], {"input_0": one[None]}) for one in pixels]
        scores, boxes = (torch.from_numpy(np.concatenate(column)) for column in zip(*outputs, strict=True))
        if not torch.stack([*scores.aminmax(), *boxes.aminmax()]).isfinite().all():  # nan is kept by both, and this is quicker
            raise StateError("net: the output of its ONNX file is nan or infinite; the output of good weights is finite. "
                             "Train again, then `dvc repro export`.")
        return scores[..., 1:], boxes


def load_onnx(path: Path, device: str) -> OnnxNet:
    """Read an exported detector.

    Args:
        path: a file, as the export stage writes it.
        device: "auto" (CUDA where this ONNX Runtime has it) | "cpu" | "cuda" | "cuda:1".

    Raises:
        StateError: it is not there, or ONNX Runtime cannot compute on the device.
        InputError: it is not an exported detector of this project.
    """
    if not path.is_file():
        raise StateError(f"{path}: missing. `dvc repro export` makes it from models/ssd.pt.")
    try:
        session = onnxruntime.InferenceSession(path, providers=_providers(device))
        net = _described(session)
    except Exception as error:
        raise InputError(f"{path}: not an exported detector of this project, as it is needed here ({first_line(error)}). "
                         "`dvc repro export` makes one.") from error
    if device.startswith("cuda") and CUDA not in session.get_providers():
        raise StateError(f"device: '{device}' is not there for {path}, this ONNX Runtime computes on "
                         f"{', '.join(session.get_providers())}; {CUDA} comes with the package onnxruntime-gpu. "
                         "Install it in the place of onnxruntime, or take device auto.")
    return net


def _providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    if device == "cpu" or CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    return [(CUDA, {"device_id": int(device.partition(":")[2] or 0)}), CPU]


def _described(session: onnxruntime.InferenceSession) -> OnnxNet:
    """The net that the file's metadata describe.

    Raises:
        ValueError: a part of the contract is missing, or the parts do not fit each other.
    """
    about = session.get_modelmeta().custom_metadata_map
    missing = [key for key in ("image_size", "classes") if key not in about]
    if missing:
        raise ValueError(f"its metadata has no {' and no '.join(missing)}")
    size, names = int(about["image_size"]), json.loads(about["classes"])[1:]
    source_ids = json.loads(about["source_ids"]) if "source_ids" in about else range(1, len(names) + 1)
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    if "labels" in shapes:
        raise ValueError("it ends with NMS, which the Detector does itself: give models/ssd.onnx")
    priors = shapes.get("boxes", [])[1:2]
    wanted = {"input_0": [1, 3, size, size], "scores": [1, *priors, len(names) + 1], "boxes": [1, *priors, 4]}
    if shapes != wanted:
        raise ValueError(f"its inputs and outputs are {shapes}; they must be {wanted}")
    if len(source_ids) != len(names):
        raise ValueError(f"it has {len(source_ids)} source ids for {len(names)} classes")
    return OnnxNet(session, size, tuple(names), tuple(source_ids))
