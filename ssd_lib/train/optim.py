"""The optimizer and its learning rate, a pure function of the step: there is no scheduler whose state could be lost."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from ssd_lib.params import TrainParams


def make_optimizer(net: nn.Module, params: TrainParams) -> Optimizer:
    """SGD with Nesterov momentum, or AdamW; norms and biases are not decayed."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": params.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if params.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=params.lr)
    return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, nesterov=params.momentum > 0)


def learning_rate(step: int, total_steps: int, warmup_steps: float, params: TrainParams) -> float:
    """The rate of one step.

    Law: it depends on the arguments alone. A run that is extended follows, from there on, the schedule of the longer run.

    Args:
        step: steps done before this one, over all epochs.
        total_steps: steps of the whole run.
        warmup_steps: over which the rate rises linearly to `params.lr`.
        params: schedule, lr, and milestones and gamma for "multistep".
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    progress = step / total_steps
    factor = {
        "constant": lambda: 1.0,
        "cosine": lambda: 0.5 * (1 + math.cos(math.pi * progress)),
        "multistep": lambda: params.gamma ** sum(progress >= milestone for milestone in params.milestones),
    }[params.schedule]()
    return params.lr * warmup * factor


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
