"""Files that torch has saved, of which nothing is executed: tensors and plain values, or a clear reason why not."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from ssd_lib.errors import InputError


def read_torch_file(path: Path, wanted: str) -> Any:
    """What a file holds, on the CPU.

    Args:
        path: the file.
        wanted: what it should be, for the message: "a file of weights".

    Raises:
        InputError: it is missing, or torch cannot read it as tensors and plain values; says what it is instead.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; {wanted} is needed. Look for a typing error.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not {wanted}: {_what_it_is(path, error)}.") from error


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
    return f"it is cut short, damaged or something else ({type(error).__name__}: {(str(error).splitlines() or [''])[0]:.100})"
