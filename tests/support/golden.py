"""Reference outputs of upstream's nets, and their weights, which are computed from the names of the tensors."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssd_lib.nets.zoo import NETS

UPSTREAM_NETS = [name for name, row in NETS.items() if row.is_upstreams]


def read_golden(shared_data: Path, name: str) -> dict[str, Any]:
    """Return the reference values of a net."""
    return json.loads((shared_data / "upstream" / f"{name}.json").read_text())


def golden_weights(golden: dict[str, Any]) -> dict[str, Tensor]:
    """Return upstream's state dict for the reference values."""
    return {name: _weight(name, shape) for name, shape, *_ in golden["entries"]}


def _weight(name: str, shape: list[int]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(math.prod(shape)).reshape(shape)
    if name.endswith("running_var"):
        x = 1 + 0.1 * abs(x)
    elif len(shape) == 4:
        x = x * math.sqrt(2 / math.prod(shape[1:])) * (0.1 if "headers" in name else 1)
    else:
        x = 0.1 * x + (1 if name.endswith("weight") else 0)
    return torch.from_numpy(x.astype(np.float32))
