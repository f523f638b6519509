"""Optimizer, learning rate and frozen parts.

The learning rate is a pure function of the step: no scheduler has state to save.
"""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from ssd_lib.nets.ssd import SSD, frozen_names
from ssd_lib.nets.zoo import NETS
from ssd_lib.params import TrainParams

RATES_FOR = 8  # images a step


def with_rate(params: TrainParams, net: str) -> TrainParams:
    """Return the parameters with a number for `lr: auto`: the net's rate, made to fit the batch.

    The rate of SGD grows in proportion to the batch (Goyal et al. 2017), that of AdamW with its root (Malladi et al. 2022).
    """
    if params.lr != "auto":
        return params
    sgd, adam = NETS[net].rates
    growth = params.batch_size / RATES_FOR
    rate = sgd * growth if params.optimizer == "sgd" else adam * math.sqrt(growth)
    return params.model_copy(update={"lr": float(f"{rate:.2g}")})


def make_optimizer(net: SSD, params: TrainParams) -> Optimizer:
    """Return SGD with Nesterov momentum, or AdamW.

    Backbone, extra maps and heads have two parameter groups each: weights of convolutions, and the rest. The optimizer is
    fused: one kernel for all, in which the host does not wait for the gradient scaler. Frozen parameters are included, so that
    a run can be continued with other parts frozen; without a gradient they do not change.
    """
    parts = (([net.backbone], params.backbone_lr), ([net.extras], params.extras_lr),
             ([net.class_heads, net.box_heads], params.lr))
    groups = []
    for modules, rate in parts:
        own = [p for module in modules for p in module.parameters()]
        share = 1.0 if rate == "auto" else rate / params.peak_rate
        groups += [
            {"params": [p for p in own if p.ndim > 1], "rate_share": share, "weight_decay": params.weight_decay},
            {"params": [p for p in own if p.ndim <= 1], "rate_share": share,
             "weight_decay": params.weight_decay if params.decay_norms else 0.0}]
    if params.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=params.peak_rate, fused=True)
    return torch.optim.SGD(groups, lr=params.peak_rate, momentum=params.momentum, nesterov=params.momentum > 0, fused=True)


def learning_rate(step: int, total_steps: int, warmup_steps: float, params: TrainParams) -> float:
    """Return the learning rate of one step.

    Guarantees: it depends only on the arguments. An extended run follows the schedule of the longer run from there on.

    Args:
        step: steps done before this one, over all epochs.
        total_steps: steps of the whole run.
        warmup_steps: steps over which the rate rises linearly to `params.lr`.
        params: schedule, lr, and milestones and gamma for "multistep".
    """
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    progress = step / total_steps
    factor = {
        "constant": lambda: 1.0,
        "cosine": lambda: 0.5 * (1 + math.cos(math.pi * progress)),
        "multistep": lambda: params.gamma ** sum(progress >= milestone for milestone in params.milestones),
    }[params.schedule]()
    return params.peak_rate * warmup * factor


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every parameter group, each with its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]


def freeze(net: SSD, which: str) -> None:
    """Turn gradients off in the parts that `train.freeze` names."""
    for module in frozen_parts(net, which):
        module.requires_grad_(False)


def set_training_mode(net: SSD, which: str) -> None:
    """Set training mode, except for frozen parts, whose batch norms would update their statistics."""
    net.train()
    for module in frozen_parts(net, which):
        module.eval()


def frozen_parts(net: SSD, which: str) -> list[nn.Module]:
    """Return the modules that `train.freeze` names."""
    return [net.get_submodule(name) for name in frozen_names(net, which)]
