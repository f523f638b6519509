"""Load an ONNX file of the export stage in ONNX Runtime, without torch. Its format is described in export/onnx_file.py."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from ssd_lib.detect.exported_net import ExportedNet, MetadataSchema, checked_metadata, exported_net, thread_count, wanted_shapes
from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.export.runtimes import Run
from ssd_lib.files import why_unreadable

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TEXTS = ("model_sha256", "precision")  # metadata_props that are not JSON


def load_onnx(path: Path, device: str) -> ExportedNet:
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
    if device.startswith("cuda") and net.device != "cuda":
        raise StateError(f"device: '{device}' is not available for {path}; this ONNX Runtime has "
                         f"{', '.join(session.get_providers())}, and {CUDA} comes with the package onnxruntime-gpu. "
                         "Install that instead of onnxruntime, or use device auto.")
    return net


def _providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    if device == "cpu" or CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    return [(CUDA, {"device_id": int(device.partition(":")[2] or 0)}), CPU]


def _net_of(session: onnxruntime.InferenceSession, open_session: Callable[[int], onnxruntime.InferenceSession]) -> ExportedNet:
    """Return the net of a session; raise ValueError if its metadata, inputs and outputs are incomplete or do not agree."""
    texts = session.get_modelmeta().custom_metadata_map
    values = checked_metadata({key: text if key in TEXTS else json.loads(text) for key, text in texts.items()
                               if key in MetadataSchema.model_fields})
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    if "labels" in shapes:
        raise ValueError("it includes NMS, which Detector does itself; give models/ssd.onnx")
    batch = next(iter(shapes.get("input_0", [])), 1)
    any_batch = isinstance(batch, str)  # a name stands for a dimension of any size
    wanted = wanted_shapes(values, batch if any_batch else 1, shapes.get("boxes", [])[1:2])
    if shapes != wanted:
        raise ValueError(f"its inputs and outputs are {shapes}; they must be {wanted}")
    device = "cuda" if CUDA in session.get_providers() else "cpu"
    return exported_net(_run_of(session), lambda threads: _run_of(open_session(threads)), values, device, "ONNX Runtime",
                        any_batch)


def _run_of(session: onnxruntime.InferenceSession) -> Run:
    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, boxes = session.run(["scores", "boxes"], {"input_0": pixels})
        return scores, boxes

    return run
