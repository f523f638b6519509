"""What stands on a backbone: the extra feature maps, and the convolutions that predict from each map."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual


def inverted_residual_extras(in_channels: int, rows: Sequence[tuple[int, float]]) -> nn.ModuleList:
    """Blocks that halve the map each: a row is (channels, expand ratio)."""
    extras = nn.ModuleList()
    for channels, expand_ratio in rows:
        extras.append(InvertedResidual(in_channels, channels, stride=2, expand_ratio=expand_ratio))
        in_channels = channels
    return extras


def lite_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """SSDLite's predictors: depthwise separable convolutions; the last map, of one cell, takes a plain 1x1 one."""
    separable = [_separable(c, out) for c, out in zip(channels[:-1], outputs[:-1], strict=True)]
    return nn.ModuleList([*separable, nn.Conv2d(channels[-1], outputs[-1], 1)])


def _separable(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
        nn.Conv2d(channels, outputs, 1),
    )
