"""Which device to compute on, as `runtime.device` asks for it."""

import os
import re

import torch

from ssd_lib.errors import InputError, StateError
from ssd_lib.params import DEVICE_PATTERN


def pick_device(name: str) -> torch.device:
    """Give the device called `name`.

    Args:
        name: "auto" (the first CUDA device, or the CPU where there is none) | "cpu" | "cuda" | "cuda:1".

    Raises:
        InputError: it is no name of a device.
        StateError: a CUDA device is asked for that is not there.
    """
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise InputError(f"device is '{name}'; it must be auto, cpu, cuda or cuda:1. Correct runtime.device, or --device.")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise StateError(f"device '{name}' is not there, this torch sees {found} CUDA device(s); auto "
                         "takes what there is. Set runtime.device (or --device) to auto.")
    return device


def choose_algorithms(deterministic: bool) -> None:
    """Let torch take algorithms that give the same bits every time, or, on a GPU, the fastest ones that it finds by trying.

    A CPU gives the same bits either way. On CUDA an operation that has no such algorithm raises RuntimeError.
    """
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing reads it
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
