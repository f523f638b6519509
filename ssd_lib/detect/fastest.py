"""Choose the fastest model file of a folder for this machine: ssd.pt for a GPU, an ONNX file made from it for a CPU."""

import logging
from pathlib import Path

from ssd_lib.detect.exported_net import ExportedNet
from ssd_lib.detect.onnx_net import load_onnx
from ssd_lib.errors import StateError
from ssd_lib.files import sha256
from ssd_lib.processes import has_cuda_driver

MODEL_NAME = "ssd.pt"
ONNX_NAMES = ("int8/ssd.onnx", "dynamic_batch/ssd.onnx", "ssd.onnx")  # the fastest on a CPU first
log = logging.getLogger(__name__)


def choose(folder: Path, device: str) -> tuple[Path, ExportedNet | None]:
    """Return the file to use, and its net if it is an ONNX file; log which it is and why others are left out.

    An ONNX file is used if it was made from the ssd.pt beside it, or, without that file, from the same one as ssd.onnx.

    Args:
        folder: usually models/.
        device: as for `Detector`.

    Raises:
        StateError: the folder has no model.
        InputError: a file that would be used is damaged.
    """
    model = folder / MODEL_NAME
    if model.is_file() and uses_gpu(device):
        log.info("model: %s, on the GPU", model)
        return model, None
    source = sha256(model) if model.is_file() else ""
    found = [(path, load_onnx(path, device)) for path in (folder / name for name in ONNX_NAMES) if path.is_file()]
    source = source or (found[-1][1].model_sha256 if found else "")
    for path, net in found:
        if net.model_sha256 == source:
            log.info("model: %s, %s in ONNX Runtime", path, net.precision)
            return path, net
        log.info("model: %s is left out, it was not made from this %s; `dvc repro export` makes it anew", path,
                 model if model.is_file() else found[-1][0])
    if not model.is_file():
        raise StateError(f"{folder}: no model is in this folder; it needs {MODEL_NAME} or ssd.onnx. `dvc repro` makes them; "
                         "--model names another file.")
    log.info("model: %s, in PyTorch; `dvc repro export` makes an ONNX file, which is faster on a CPU", model)
    return model, None


def uses_gpu(device: str) -> bool:
    """Return whether PyTorch would compute on a GPU; it is imported only where there is a driver for one."""
    if device == "cpu" or not has_cuda_driver():
        return device.startswith("cuda")
    try:
        import torch
    except ImportError:
        return False
    return device.startswith("cuda") or torch.cuda.is_available()
