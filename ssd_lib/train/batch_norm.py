"""Batch norm over the global batch: the statistics of all processes' images, as one process with the whole batch has them."""

from typing import Any

import torch
from torch import Tensor, nn

from ssd_lib.distributed.collectives import sum_over_processes


def with_shared_statistics(net: nn.Module) -> nn.Module:
    """`net`, which is changed, with batch norms that take their statistics over all processes while they train.

    Guarantees: the parameters and buffers are the same tensors under the same names; in evaluation mode nothing is different.

    Args:
        net: on a CUDA device, where torch's own SyncBatchNorm serves, or on the CPU, which that one refuses.
    """
    if next(net.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return net


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose mean and variance are those of the images of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        x = input.to(self.weight.dtype)  # bf16 has too few bits for sums
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        count = torch.full_like(mean, x.numel() / x.shape[1], dtype=torch.float64)
        sums = torch.stack([count, count * mean, count * (variance + mean.double() ** 2)])
        count, total, squares = _Sum.apply(sums).unbind()
        mean64 = total / count
        mean, variance = mean64.to(x.dtype), (squares / count - mean64 ** 2).clamp(min=0).to(x.dtype)
        self._remember(mean.detach(), variance.detach() * (count / (count - 1)).to(x.dtype))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as nn.BatchNorm2d does."""
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(now, self.momentum)  # type: ignore[union-attr, arg-type]  # None only where a net asks for it; none does
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class _Sum(torch.autograd.Function):
    """The sum over processes. Each one's part adds to everybody's result, so that its gradient is the sum of everybody's."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient.contiguous())
