"""Read the weights and the epoch of combo checkpoints of kaboom-labs/pytorch-ssd, and execute nothing in them.

Such a file is a dict of `epoch` (counted from 0, complete), `weights`, `optimizer` (state dicts) and `scheduler`, a pickled
object, which `torch.load(weights_only=True)` refuses. Here it gets an inert placeholder for every unknown name, so that it
reads the weights and creates no objects. These files serve as `model.weights` and for `ssd checkpoint convert`, not for
`train.resume`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.errors import InputError, first_line
from ssd_lib.files import why_unreadable
from ssd_lib.nets.schema import refuse_bomb


@dataclass(frozen=True)
class KaboomCheckpoint:
    """The usable content: complete epochs, and a state dict under upstream's names, without DataParallel's prefix."""

    epochs: int
    weights: dict[str, Tensor]


class _Inert:
    """A placeholder for any object; does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _inert_mapping(*args: Any) -> OrderedDict[Any, Any]:
    return OrderedDict()


def read_kaboom(path: Path) -> KaboomCheckpoint:
    """Read the weights and the epoch of a COMBO_CHECKPOINT*.pth onto the CPU.

    Raises:
        InputError: it is damaged, or something else.
    """
    if reason := why_unreadable(path):
        raise InputError(f"{path}: {reason}; a checkpoint file is needed. Check the path and the permissions.")
    refuse_bomb(path, str(path))
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        known: list[Any] = [(_inert_mapping if name == "collections.defaultdict" else _Inert, name) for name in names]
        with torch.serialization.safe_globals(known):
            content = torch.load(path, map_location="cpu", weights_only=True)
        if "format" in content:
            raise ValueError("it names another format")
        weights = {str(key).removeprefix("module."): value for key, value in content["weights"].items()}
        if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError("its weights are not tensors")
        return KaboomCheckpoint(int(content["epoch"]) + 1, weights)
    except Exception as error:
        raise InputError(f"{path}: not a combo checkpoint of kaboom-labs ({type(error).__name__}: "
                         f"{first_line(error)}).") from error
