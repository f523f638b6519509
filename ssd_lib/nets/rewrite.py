"""Rewrite a net without changing what it computes: ReLU6 in less memory, fused batch norms, weights for other pixel scales."""

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssd_lib.nets.ssd import SSD


class LeanReLU6(nn.ReLU6):
    """ReLU6 that keeps only its result for the backward pass.

    torch's in-place ReLU6 first copies its input: a third of the memory that a MobileNet trains in, and the time to write it.
    Guarantees: the same values and gradients as nn.ReLU6, bit for bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Clamp any tensor to [0, 6]."""
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            clamped: Tensor = _Clamp.apply(input)
            return clamped
        return super().forward(input)


def use_lean_activations(net: nn.Module) -> None:
    """Turn every ReLU6 of `net` into a LeanReLU6."""
    for module in net.modules():
        if type(module) is nn.ReLU6:
            module.__class__ = LeanReLU6


def fuse_batch_norms(net: SSD) -> SSD:
    """Return a copy of a net, in evaluation mode, with its batch norms folded into the convolutions before them.

    Guarantees: its outputs are those of `net` up to rounding (about 1e-6 of a logit).
    """
    fused = copy.deepcopy(net).eval()
    for module in list(fused.modules()):
        children = list(module.named_children())
        for (name, convolution), (next_name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, next_name, nn.Identity())
    return fused


def rescale_input(weights: Mapping[str, Tensor], net: SSD, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Return the weights, changed so that the first convolution computes from `net`'s pixels what it computed from its own.

    Guarantees: convolving (x - net.mean) / net.std with the result gives what the weights gave for (x - mean) / std, except at the
    image border, where the zero padding is another colour.

    Args:
        weights: a state dict of `net`.
        mean, std: of RGB pixels in [0, 255], as the weights were trained.
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
        return torch.ops.aten.hardtanh_backward(gradient, clamped, 0, 6)  # which only asks where it is 0 or 6
