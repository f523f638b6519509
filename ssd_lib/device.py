"""Choose the device, the precision and the algorithms to compute with."""

import logging
import os
import re

import torch

from ssd_lib.errors import InputError, StateError
from ssd_lib.params import DEVICE_PATTERN
from ssd_lib.processes import available_cores, free_cores

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
log = logging.getLogger(__name__)


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


def pick_threads(asked: int | str, begun: int, processes: int) -> int:
    """Return with how many threads each training process computes on a CPU, and log why where that is not plain.

    Sums are split over threads, so their number decides the last bits of the result: a run keeps the one that it began with.

    Args:
        asked: `runtime.threads`; for "auto" OMP_NUM_THREADS counts as asked if it is set.
        begun: what the run that is continued began with; 0 for a new one.
        processes: training processes that share the cores of this machine.
    """
    if asked == "auto" and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        asked = max(1, int(os.environ["OMP_NUM_THREADS"]))
    if isinstance(asked, int):
        number, text = asked, ""
    else:
        number, text = choose_threads(begun, free_cores() / processes, max(1, available_cores() // processes))
    if begun not in (0, number):
        text = (f"the run began with {begun} thread(s) and goes on with {number}, as asked: its weights will differ in their "
                "last bits from those of a run that was never stopped")
    if text:
        log.info("%s", text)
    return number


def choose_threads(begun: int, free: float, cores: int) -> tuple[int, str]:
    """Return the number of threads for `auto`, and a line about it for a busy machine.

    Args:
        begun: see `pick_threads`.
        free, cores: of the cores that this process may use so many are free, of so many.
    """
    now = max(1, min(cores, round(free)))
    busy = f"{max(0, free):.1f} of {cores} CPU core(s) are free"
    if begun > now:
        return begun, (f"{busy}, and the run keeps the {begun} threads that it began with, for the same bits. If it is slow, "
                       f"set runtime.threads: {now}")
    if not begun and now < cores:
        return now, f"the machine is busy: {busy}, so {now} thread(s) compute; a run keeps them to its end (runtime.threads)"
    return begun or now, ""


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
