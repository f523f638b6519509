"""Run an exported net in ONNX Runtime, without torch. The format of the file is described in export.py."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from pydantic import Field

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.files import why_unreadable
from ssd_lib.images import FULL_RANGE, Range
from ssd_lib.manifest import MAX_CLASSES
from ssd_lib.plain_values import DeepRange, Id, Name, PostprocessSchema, Strict, check
from ssd_lib.processes import available_cores

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class MetadataSchema(Strict):
    """The metadata_props that are used, each of them JSON."""

    image_size: Annotated[int, Field(ge=32, le=1024)]
    classes: Annotated[list[Name], Field(min_length=2, max_length=MAX_CLASSES + 1)]
    source_ids: Annotated[list[Id], Field(max_length=MAX_CLASSES)] | None = None
    postprocess: dict[str, Any] = Field(default_factory=dict)
    sixteen_bit_range: DeepRange = FULL_RANGE


TEXTS = ("model_sha256", "precision")  # metadata_props that are not JSON


@dataclass(frozen=True)
class OnnxNet:
    """A session and the metadata of its file.

    Attributes:
        session: input `input_0` (1, 3, S, S); outputs `scores` (1, P, K + 1) and `boxes` (1, P, 4). All threads share an image.
        open_session: makes another session of the same file, with this number of threads.
        image_size: S.
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the dataset that it was trained on.
        postprocess: how its outputs become detections.
        sixteen_bit_range: see `decode_image`.
        model_sha256: SHA-256 of the ssd.pt that the file was made from; "" if it does not say.
        precision: "fp32" | "int8".
    """

    session: onnxruntime.InferenceSession
    open_session: Callable[[int], onnxruntime.InferenceSession]
    image_size: int
    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    postprocess: Postprocess
    sixteen_bit_range: Range = FULL_RANGE
    model_sha256: str = ""
    precision: str = "fp32"

    @property
    def device(self) -> str:
        """Return "cuda" or "cpu", where the session computes."""
        return "cuda" if CUDA in self.session.get_providers() else "cpu"

    @cached_property
    def one_thread_session(self) -> onnxruntime.InferenceSession:
        """Return a session for several images at a time, each computed by one thread: more images/s than `session`."""
        return self.open_session(1)

    def score_priors(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores without the background (B, P, K) and boxes (B, P, 4); the graph takes one image, each thread another.

        Args:
            images: (B, S, S, 3) uint8, RGB.

        Raises:
            StateError: the graph gives nan or infinity.
        """
        pixels = (images.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
        threads = 1 if self.device == "cuda" else min(thread_count(), len(pixels))
        session = self.one_thread_session if threads > 1 else self.session
        with ThreadPoolExecutor(threads) as pool:
            outputs = list(pool.map(lambda one: session.run(["scores", "boxes"], {"input_0": one[None]}), pixels))
        scores, boxes = (np.concatenate(column) for column in zip(*outputs, strict=True))
        if not all(np.isfinite(extreme) for values in (scores, boxes) for extreme in (values.min(), values.max())):
            raise StateError("net: the output of the ONNX file is nan or infinite; the weights are not usable. Train again, "
                             "then run `dvc repro export`.")
        return scores[..., 1:], boxes


def load_onnx(path: Path, device: str) -> OnnxNet:
    """Load an exported detector.

    Args:
        path: a file of the export stage.
        device: "auto" (CUDA if this ONNX Runtime has it) | "cpu" | "cuda" | "cuda:1".

    Raises:
        StateError: the file is missing, or ONNX Runtime cannot use the device.
        InputError: the file is not an exported detector of this project.
    """
    if not path.is_file():
        reason = why_unreadable(path) if path.exists() else "missing"
        raise StateError(f"{path}: {reason}. `dvc repro export` makes it from models/ssd.pt.")

    def open_session(threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(path, options, providers=_providers(device))

    try:
        session = open_session(thread_count())
        net = _net_of(session, open_session)
    except Exception as error:
        raise InputError(f"{path}: not an exported detector of this project ({first_line(error)}). `dvc repro export` "
                         "makes one.") from error
    if device.startswith("cuda") and CUDA not in session.get_providers():
        raise StateError(f"device: '{device}' is not available for {path}; this ONNX Runtime has "
                         f"{', '.join(session.get_providers())}, and {CUDA} comes with the package onnxruntime-gpu. "
                         "Install that instead of onnxruntime, or use device auto.")
    return net


def thread_count() -> int:
    """Return with how many threads a session computes on a CPU: as in PyTorch OMP_NUM_THREADS, else one for each core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else available_cores()


def _providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    if device == "cpu" or CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    return [(CUDA, {"device_id": int(device.partition(":")[2] or 0)}), CPU]


def _net_of(session: onnxruntime.InferenceSession, open_session: Callable[[int], onnxruntime.InferenceSession]) -> OnnxNet:
    """Return the net of a session; raise ValueError if its metadata, inputs and outputs are incomplete or do not agree."""
    metadata = session.get_modelmeta().custom_metadata_map
    missing = [key for key in ("image_size", "classes") if key not in metadata]
    if missing:
        raise ValueError(f"its metadata has no {' and no '.join(missing)}")
    read = {key: json.loads(metadata[key]) for key in MetadataSchema.model_fields if key in metadata}
    values = check(MetadataSchema, read, "metadata")
    check(PostprocessSchema, values.postprocess, "metadata postprocess")
    size, names = values.image_size, values.classes[1:]
    source_ids = values.source_ids if values.source_ids is not None else range(1, len(names) + 1)
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    if "labels" in shapes:
        raise ValueError("it includes NMS, which Detector does itself; give models/ssd.onnx")
    priors = shapes.get("boxes", [])[1:2]
    wanted = {"input_0": [1, 3, size, size], "scores": [1, *priors, len(names) + 1], "boxes": [1, *priors, 4]}
    if shapes != wanted:
        raise ValueError(f"its inputs and outputs are {shapes}; they must be {wanted}")
    if len(source_ids) != len(names):
        raise ValueError(f"it has {len(source_ids)} source ids for {len(names)} classes")
    return OnnxNet(session, open_session, size, tuple(names), tuple(source_ids), Postprocess.from_plain(values.postprocess),
                   values.sixteen_bit_range, **{key: metadata[key] for key in TEXTS if key in metadata})
