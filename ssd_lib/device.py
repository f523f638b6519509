"""Choose the device, the precision and the algorithms to compute with."""

import os
import re

import torch

from ssd_lib.errors import InputError, StateError
from ssd_lib.params import DEVICE_PATTERN

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Return the device that `runtime.device` names.

    Args:
        name: "auto" (the first CUDA device, or else the CPU) | "cpu" | "cuda" | "cuda:1".

    Raises:
        InputError: it is not the name of a device.
        StateError: the CUDA device does not exist.
    """
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise InputError(f"device is '{name}'; it must be auto, cpu, cuda or cuda:1. Correct runtime.device, or --device.")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise StateError(f"device '{name}' does not exist; this torch sees {found} CUDA device(s). "
                         "Set runtime.device (or --device) to auto.")
    return device


def choose_algorithms(deterministic: bool) -> None:
    """Make torch use algorithms that give the same bits every time, or, on a GPU, the fastest ones that it finds by trying.

    A CPU gives the same bits either way. On CUDA an operation that has no such algorithm raises RuntimeError.
    """
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, and nothing reads it
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type that `train.precision` names.

    "auto" is bf16 if the hardware has it, else fp16 on a GPU and fp32 on a CPU.
    """
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions; without them bf16 is emulated, and slower than fp32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
