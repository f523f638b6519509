"""ReLU6 that keeps what it gives for the backward pass. torch's own, in place, first copies what it gets: a third of the
memory that a MobileNet trains in, and the time to write it."""

from typing import Any

import torch
from torch import Tensor, nn


class LeanReLU6(nn.ReLU6):
    """ReLU6 in place. Guarantees: the same values and gradients as nn.ReLU6, bit for bit."""

    def forward(self, input: Tensor) -> Tensor:
        """Clamp any tensor to [0, 6]."""
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            clamped: Tensor = _Clamp.apply(input)
            return clamped
        return super().forward(input)


def use_lean_activations(net: nn.Module) -> None:
    """Let every ReLU6 of `net` be a lean one."""
    for module in net.modules():
        if type(module) is nn.ReLU6:
            module.__class__ = LeanReLU6


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.mark_dirty(tensor)
        ctx.save_for_backward(tensor.clamp_(0, 6))
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        clamped: Tensor = ctx.saved_tensors[0]
        return torch.ops.aten.hardtanh_backward(gradient, clamped, 0, 6)  # which asks of it only where it is 0 or 6
