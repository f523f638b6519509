"""Checkpoint files as kaboom-labs/pytorch-ssd writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

SCHEDULERS = [lambda optimizer: CosineAnnealingLR(optimizer, 120), lambda optimizer: MultiStepLR(optimizer, [80, 100])]


def write_kaboom(path: Path, net: nn.Module, epoch: int, scheduler: Any = SCHEDULERS[0], prefix: str = "",
                 names: Mapping[str, Tensor] | None = None) -> Path:
    """Write a file like its training script, where the scheduler is a pickled object with a reference to the optimizer."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    rates: LRScheduler = scheduler(optimizer)
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    rates.step()
    weights = {prefix + key: value for key, value in (names or net.state_dict()).items()}
    torch.save({"epoch": epoch, "weights": weights, "optimizer": optimizer.state_dict(), "scheduler": rates}, path)
    return path
