"""Weights that were trained on other pixels than a net gives its backbone, made to fit."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssd_lib.nets.ssd import SSD


def rescale_input(weights: Mapping[str, Tensor], net: SSD, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """The weights, changed so that the first convolution computes from `net`'s pixels what it computed from its own.

    Guarantees: convolving (x - net.mean) / net.std with the result gives what the weights gave for (x - mean) / std, but for the cells
    at the image's edge: zeros around it are another colour.

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
    else:  # what follows is a batch norm
        changed[f"{norm}.running_mean"] = weights[f"{norm}.running_mean"] - constant
    return {**weights, **changed}
