"""Extra feature maps after a backbone, and the heads, which predict from each map."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.squeezenet import Fire

from ssd_lib.nets.backbones import MobileNetV3Block


def extra_maps(block: Callable[..., nn.Module], channels: int, rows: Sequence[tuple[Any, ...]]) -> nn.ModuleList:
    """Return one block per row, made by block(input channels, *row); the first value of a row is the output channels."""
    extras = nn.ModuleList()
    for row in rows:
        extras.append(block(channels, *row))
        channels = row[0]
    return extras


def inverted_residual(channels: int, out: int, expand_ratio: float) -> nn.Module:
    """Return a block of MobileNetV2 with stride 2."""
    return InvertedResidual(channels, out, stride=2, expand_ratio=expand_ratio)


def mobilenet_v3_block(channels: int, out: int, expanded: int) -> nn.Module:
    """Return a block of MobileNetV3 with stride 2."""
    return MobileNetV3Block(3, channels, expanded, out, nn.Hardswish, False, 2)


def plain(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return SSD's block: a 1x1 and a 3x3 convolution."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, out, 3, stride, padding), nn.ReLU(inplace=True))


def plain_with_norm(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return the block of `plain` with batch norms."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, out, 3, stride, padding, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def separable(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return the block of `plain` with a depthwise separable 3x3 convolution."""
    depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding, groups=hidden)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                         nn.Sequential(depthwise, nn.ReLU(inplace=True), nn.Conv2d(hidden, out, 1)))


def after_squeezenet(channels: int, rows: Sequence[tuple[int, int, int, int]]) -> nn.ModuleList:
    """Return `separable` blocks; the first one begins with the last module of SqueezeNet, which has no heads in upstream."""
    extras = extra_maps(separable, 512, rows)
    extras[0] = nn.Sequential(Fire(channels, 64, 256, 256), *extras[0].children())
    return extras


def plain_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """Return SSD's heads: 3x3 convolutions."""
    return nn.ModuleList(nn.Conv2d(c, out, 3, padding=1) for c, out in zip(channels, outputs, strict=True))


def lite_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """Return SSDLite's heads: depthwise separable convolutions; a 1x1 convolution for the last map, which has one cell."""
    return _lite_heads(channels, outputs, with_norm=True)


def lite_heads_without_norm(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """Return the heads of `lite_heads` without batch norm."""
    return _lite_heads(channels, outputs, with_norm=False)


def _lite_heads(channels: Sequence[int], outputs: Sequence[int], with_norm: bool) -> nn.ModuleList:
    separable = [_separable(c, out, with_norm) for c, out in zip(channels[:-1], outputs[:-1], strict=True)]
    return nn.ModuleList([*separable, nn.Conv2d(channels[-1], outputs[-1], 1)])


def _separable(channels: int, outputs: int, with_norm: bool) -> nn.Sequential:
    between = [nn.BatchNorm2d(channels), nn.ReLU6(inplace=True)] if with_norm else [nn.ReLU(inplace=True)]
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, outputs, 1))
