"""Which device to compute on, as `runtime.device` asks for it."""

import torch

from ssd_lib.errors import StateError


def pick_device(name: str) -> torch.device:
    """Give the device called `name`.

    Args:
        name: "auto" (the first CUDA device, or the CPU where there is none) | "cpu" | "cuda" | "cuda:1".

    Raises:
        StateError: a CUDA device is asked for that is not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if found else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise StateError(f"runtime.device: '{name}' is not there, this torch sees {found} CUDA device(s); auto "
                         "takes what there is. Set runtime.device: auto.")
    return device
