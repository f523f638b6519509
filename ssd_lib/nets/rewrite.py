"""Rewrite a net without changing its results: ReLU6 in less memory, fused batch norms, another input normalisation."""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssd_lib.nets.fpn import SharedHeads
from ssd_lib.nets.ssd import SSD


class LeanReLU6(nn.ReLU6):
    """ReLU6 that saves only its result for the backward pass.

    torch's in-place ReLU6 also saves a copy of its input: a third of the memory of training a MobileNet.
    Guarantees: the same values and gradients as nn.ReLU6, bit for bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Clamp any tensor to [0, 6]."""
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            clamped: Tensor = _Clamp.apply(input)
            return clamped
        return super().forward(input)


def use_lean_activations(net: nn.Module) -> None:
    """Replace the class of every ReLU6 of `net` by LeanReLU6."""
    for module in net.modules():
        if type(module) is nn.ReLU6:
            module.__class__ = LeanReLU6


def fuse_batch_norms(net: SSD) -> SSD:
    """Return a copy of a net, in evaluation mode, with its batch norms folded into the convolutions before them.

    Guarantees: its outputs equal those of `net` up to rounding (about 1e-6 of a logit).
    """
    fused = copy.deepcopy(net).eval()
    for name, module in list(fused.named_children()):
        if isinstance(module, SharedHeads):
            setattr(fused, name, module.unshared())
    for module in list(fused.modules()):
        children = list(module.named_children())
        for (name, convolution), (next_name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, next_name, nn.Identity())
    return fused


def rescale_input(weights: Mapping[str, Tensor], net: SSD, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Return the weights with the first convolution adapted from the given input normalisation to that of `net`.

    Guarantees: for any pixels x, the result computes from (x - net.mean) / net.std what the weights computed from
    (x - mean) / std, except at the image border, where the zero padding stands for another colour.

    Args:
        weights: a state dict of `net`.
        mean, std: the normalisation of RGB pixels in [0, 255] that the weights were trained with.
    """
    name, convolution = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    norm = next((name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)), "")
    old_mean, old_std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    kernel = weights[f"{name}.weight"]
    constant = (kernel * ((net.mean.cpu() - old_mean) / old_std)).sum(dim=(1, 2, 3))
    changed = {f"{name}.weight": kernel * (net.std.cpu() / old_std)}
    if convolution.bias is not None:
        changed[f"{name}.bias"] = weights[f"{name}.bias"] + constant
    else:  # a batch norm follows
        changed[f"{norm}.running_mean"] = weights[f"{norm}.running_mean"] - constant
    return {**weights, **changed}


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.mark_dirty(tensor)
        ctx.save_for_backward(tensor.clamp_(0, 6))
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        clamped: Tensor = ctx.saved_tensors[0]
        return torch.ops.aten.hardtanh_backward(gradient, clamped, 0, 6)  # needs only to know where the result is 0 or 6
