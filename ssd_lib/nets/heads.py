"""What stands on a backbone: the extra feature maps, and the convolutions that predict from each map."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.squeezenet import Fire

from ssd_lib.nets.backbones import MobileNetV3Block


def extra_maps(block: Callable[..., nn.Module], channels: int, rows: Sequence[tuple[Any, ...]]) -> nn.ModuleList:
    """Blocks in a row: `block` is called with the channels it gets and a row, whose first value is the channels it gives."""
    extras = nn.ModuleList()
    for row in rows:
        extras.append(block(channels, *row))
        channels = row[0]
    return extras


def inverted_residual(channels: int, out: int, expand_ratio: float) -> nn.Module:
    """A block of MobileNetV2 that halves the map."""
    return InvertedResidual(channels, out, stride=2, expand_ratio=expand_ratio)


def mobilenet_v3_block(channels: int, out: int, wide: int) -> nn.Module:
    """A block of MobileNetV3 that halves the map."""
    return MobileNetV3Block(3, channels, wide, out, nn.Hardswish, False, 2)


def plain(channels: int, out: int, narrow: int, stride: int, padding: int) -> nn.Sequential:
    """SSD's: a 1x1 and a 3x3 convolution."""
    return nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True),
                         nn.Conv2d(narrow, out, 3, stride, padding), nn.ReLU(inplace=True))


def plain_with_norm(channels: int, out: int, narrow: int, stride: int, padding: int) -> nn.Sequential:
    """The same with batch norm."""
    return nn.Sequential(nn.Conv2d(channels, narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True),
                         nn.Conv2d(narrow, out, 3, stride, padding, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def separable(channels: int, out: int, narrow: int, stride: int, padding: int) -> nn.Sequential:
    """`plain` with a depthwise separable convolution for the 3x3 one."""
    depthwise = nn.Conv2d(narrow, narrow, 3, stride, padding, groups=narrow)
    return nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True),
                         nn.Sequential(depthwise, nn.ReLU(inplace=True), nn.Conv2d(narrow, out, 1)))


def after_squeezenet(channels: int, rows: Sequence[tuple[int, int, int, int]]) -> nn.ModuleList:
    """`separable` ones, the first of them after the last module of SqueezeNet, from which upstream does not predict."""
    extras = extra_maps(separable, 512, rows)
    extras[0] = nn.Sequential(Fire(channels, 64, 256, 256), *extras[0].children())
    return extras


def plain_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """SSD's predictors: 3x3 convolutions."""
    return nn.ModuleList(nn.Conv2d(c, out, 3, padding=1) for c, out in zip(channels, outputs, strict=True))


def lite_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """SSDLite's predictors: depthwise separable convolutions; the last map, of one cell, takes a plain 1x1 one."""
    return _lite_heads(channels, outputs, with_norm=True)


def lite_heads_without_norm(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """The same without batch norm."""
    return _lite_heads(channels, outputs, with_norm=False)


def _lite_heads(channels: Sequence[int], outputs: Sequence[int], with_norm: bool) -> nn.ModuleList:
    separable = [_separable(c, out, with_norm) for c, out in zip(channels[:-1], outputs[:-1], strict=True)]
    return nn.ModuleList([*separable, nn.Conv2d(channels[-1], outputs[-1], 1)])


def _separable(channels: int, outputs: int, with_norm: bool) -> nn.Sequential:
    between = [nn.BatchNorm2d(channels), nn.ReLU6(inplace=True)] if with_norm else [nn.ReLU(inplace=True)]
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, outputs, 1))
