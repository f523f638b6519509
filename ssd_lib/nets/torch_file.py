"""Files that torch has saved, of which nothing is executed: tensors and plain values, or a clear reason why not."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, first_line
from ssd_lib.files import why_unreadable


def read_torch_file(path: Path, wanted: str) -> Any:
    """What a file holds, on the CPU.

    Args:
        path: the file.
        wanted: what it should be, for the message: "a file of weights".

    Raises:
        InputError: it is missing, or torch cannot read it as tensors and plain values; says what it is instead.
    """
    if reason := why_unreadable(path):
        raise InputError(f"{path}: {reason}; {wanted} is needed. Look for a typing error, or mend the permissions.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not {wanted}: {_what_it_is(path, error)}.") from error


def refuse_strange(tensors: Mapping[str, Any], where: str) -> None:
    """Raise InputError, unless all of a state dict are finite numbers that a net can begin from."""
    def is_good(name: str, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            return False
        return name.endswith("num_batches_tracked") or bool(value.is_floating_point() and value.isfinite().all())
    bad = next((name for name, value in tensors.items() if not is_good(name, value)), None)
    if bad is not None:
        raise InputError(f"{where}: '{bad}' is not a tensor of finite floating-point numbers; no net can begin from it. Take "
                         "another file.")


def _what_it_is(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if not head:
        return "it is empty. Fetch it again"
    if head.startswith(b"<"):
        return "it is a web page; such pages are what a failed download leaves. Fetch it again, in a browser if need be"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("/data.pkl") for name in names):
            return f"it is a zip archive of other files ({', '.join(names[:3])}). Unpack it, and give the file inside"
    elif head.startswith(b"PK"):
        return "it is cut short or damaged. Fetch it again, and compare its size"
    if "Unsupported" in str(error) or "weights_only" in str(error):
        return "it holds objects of a program beside its weights, which are not executed. Save the state dict alone"
    return f"it is cut short, damaged or something else ({type(error).__name__}: {first_line(error):.100})"
